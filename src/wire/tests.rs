//! Tests that need access to the inside: bytes with a valid checksum and invalid content.

use super::*;
use crate::histogram::RawCounts;

fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = bytes.len() - CHECKSUM;
    let checksum = crc32fast::hash(&bytes[..body]).to_le_bytes();
    bytes[body..].copy_from_slice(&checksum);
    bytes
}

#[test]
fn every_single_byte_change_is_an_error_or_a_consistent_histogram() {
    let values: Vec<f32> = (0..200).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.37).collect();
    let bytes = Histogram::of(&values).to_bytes();
    for i in 0..bytes.len() - CHECKSUM {
        for flip in [1u8, 0x40, 0x80, 0xff] {
            let mut altered = bytes.clone();
            altered[i] ^= flip;
            assert!(Histogram::from_bytes(&altered).is_err(), "byte {i} ^ {flip}");
            if let Ok(h) = Histogram::from_bytes(&resealed(altered)) {
                assert_eq!(Histogram::from_bytes(&h.to_bytes()).as_ref(), Ok(&h));
                let binned: u64 = h.codes().map(|(_, n)| n).sum();
                assert_eq!(binned + h.zeros(), h.finite());
            }
        }
    }
}

#[test]
fn every_truncation_is_reported_as_such() {
    let bytes = Histogram::of(&[1.0f32, -2.5, 0.0, 1e30]).to_bytes();
    for len in 0..bytes.len() {
        let error = Histogram::from_bytes(&bytes[..len]).expect_err("cut");
        assert!(matches!(error, Error::Truncated { .. }), "{len} of {}: {error}", bytes.len());
    }
}

#[test]
fn foreign_newer_and_other_bytes_are_named() {
    assert_eq!(Histogram::from_bytes(b"PK\x03\x04 a zip"), Err(Error::Foreign));
    let mut newer = Histogram::new().to_bytes();
    newer[4] = VERSION + 1;
    assert_eq!(
        Histogram::from_bytes(&resealed(newer)),
        Err(Error::Newer { found: VERSION + 1, known: VERSION })
    );
    let archive = Archive::write("{}", std::iter::empty());
    assert_eq!(
        Histogram::from_bytes(&archive),
        Err(Error::Kind { want: "histogram", found: Kind::Calibrator as u8 })
    );
}

#[test]
fn extremes_of_an_exact_histogram_are_inner_edges() {
    let beside = f32::from_bits(1.5f32.to_bits() + 1);
    let with_ends = |values: &[f32], min: f32, max: f32| {
        let mut bytes = Histogram::of(values).to_bytes();
        // Before them are magic, version, kind, flags, resolution and five counters of one byte.
        for (at, end) in [(13, min), (17, max)] {
            bytes[at..at + 4].copy_from_slice(&end.to_bits().to_le_bytes());
        }
        Histogram::from_bytes(&resealed(bytes))
    };
    assert_eq!(with_ends(&[1.5, 1.5], 1.5, 1.5), Ok(Histogram::of(&[1.5f32, 1.5])));
    assert!(matches!(with_ends(&[1.5, 1.5], 1.5, beside), Err(Error::Altered(_))));
    assert!(matches!(with_ends(&[1.5, 1.5], beside, beside), Err(Error::Altered(_))));
}

#[test]
fn flags_that_are_not_known_are_refused() {
    for values in [&[][..], &[1.0f32, -2.5][..]] {
        let bytes = Histogram::of(values).to_bytes();
        for bit in 3..8 {
            let mut altered = bytes.clone();
            altered[6] |= 1 << bit; // after magic, version and kind
            let read = Histogram::from_bytes(&resealed(altered));
            assert_eq!(read, Err(Error::Altered("unknown flags")), "bit {bit}");
        }
    }
}

#[test]
fn counts_that_do_not_add_up_are_refused() {
    let mut bytes = Histogram::of(&[1.0f32, -2.5]).to_bytes();
    assert_eq!(bytes[8], 2); // after magic, version, kind, flags and resolution
    bytes[8] = 3;
    let read = Histogram::from_bytes(&resealed(bytes));
    assert_eq!(read, Err(Error::Altered("the counts do not add up")));
}

#[test]
fn trailing_bytes_are_refused() {
    let mut bytes = Histogram::of(&[1.0f32, -2.5]).to_bytes();
    bytes.insert(bytes.len() - CHECKSUM, 0);
    let read = Histogram::from_bytes(&resealed(bytes));
    assert_eq!(read, Err(Error::Altered("bytes are left over")));
}

#[test]
fn an_archive_that_claims_a_billion_tensors_reserves_nothing() {
    let bytes = seal(WITHOUT_CHANNELS, Kind::Calibrator, |w| {
        w.text("{}");
        w.number(1 << 40);
    });
    assert!(matches!(Archive::read(&bytes), Err(Error::Truncated { .. })));
}

#[test]
fn a_tensor_that_occurs_twice_is_refused_by_name() {
    let entry = Entry::Tensor(TensorStats::default());
    let of = |names: &[&'static str]| {
        let tensors: Vec<_> = names.iter().map(|&name| (name, &entry)).collect();
        Archive::read(&Archive::write("{}", tensors.into_iter()))
    };
    assert!(of(&["a", "b", "", "A"]).is_ok());
    assert_eq!(of(&["a", "b", "c", "b"]), Err(Error::Duplicate("b".into())));
    assert_eq!(of(&["", ""]), Err(Error::Duplicate(String::new())));
}

/// A bin in every octave. Their pages would take 2 MiB, or 10 MiB for large counts.
fn bins_apart(bits: u32, count: u64) -> Histogram {
    let layout = crate::float::Layout::new(bits).expect("in range");
    let octaves = (0..255).chain(256..511);
    let bins: Vec<(u64, u64)> = octaves.map(|octave| ((octave << bits) + 1, count)).collect();
    let edge = |code: usize| f32::from_bits((code as u32) << layout.shift());
    let last = (254 << bits) + 1;
    Histogram::from_counts(&RawCounts {
        mantissa_bits: bits,
        exact: true,
        fixed: true,
        extremes: Some((-edge(last), edge(last))),
        bins,
        ..RawCounts::default()
    })
    .expect("they fit together")
}

#[test]
fn reading_takes_memory_in_proportion_to_the_bytes() {
    for bits in 3..=12 {
        for count in [1, 255, 256, 1 << 50] {
            let made = bins_apart(bits, count);
            let bytes = made.to_bytes();
            let read = Histogram::from_bytes(&bytes).expect("just written");
            assert!(read.memory() <= 16 * bytes.len(), "{} of {}", read.memory(), bytes.len());
            let mut more = read.clone();
            more.record(&[2.0f32]);
            let mut want = made.clone();
            want.record(&[2.0f32]);
            assert_eq!(more, want);
        }
    }
}

#[test]
fn thousands_of_tensors_without_observations_are_refused() {
    let entry = Entry::Tensor(TensorStats::default());
    let names: Vec<String> = (0..100_000).map(|i| format!("{i:x}")).collect();
    let read = |n: usize| {
        let tensors = names[..n].iter().map(|name| (name.as_str(), &entry));
        Archive::read(&Archive::write("{}", tensors.collect::<Vec<_>>().into_iter()))
    };
    assert!(read(1000).is_ok());
    assert!(matches!(read(100_000), Err(Error::Altered(_))));
    let mut observed = TensorStats::default();
    observed.observe::<f32>(&[]);
    let entry = Entry::Tensor(observed);
    let tensors = names.iter().map(|name| (name.as_str(), &entry)).collect::<Vec<_>>();
    assert!(Archive::read(&Archive::write("{}", tensors.into_iter())).is_ok());
}

#[test]
fn a_channel_of_another_resolution_is_refused_before_its_bins_are_read() {
    let with = |bits| {
        let mut h = Histogram::with_mantissa_bits(bits).expect("in range");
        h.record(&[1.0f32]);
        h
    };
    let mut w = Writer::default();
    w.raw(&[1, 1, 2]); // the axis, one observation, two channels
    histogram::write(&mut w, &with(5));
    w.raw(&[1 | 2 | 4, 6]); // fixed, exact, at 6 bits; and no more
    let bytes = w.into_bytes();
    let read = channels::read(&mut Reader::new(&bytes, bytes.len()));
    assert_eq!(read, Err(Error::Altered("the channels differ in resolution")));
}

fn by_channel() -> Archive {
    let values: Vec<f32> = (0..30).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.37).collect();
    let mut stats = ChannelStats::new(-1, 5).expect("in range");
    let shape = crate::shape::Shape { outer: 10, channels: 3, inner: 1 };
    stats.observe(&values, shape).expect("first");
    Archive { settings: "{}".into(), tensors: vec![("x".into(), Entry::Channels(stats))] }
}

fn bytes_of(archive: &Archive) -> Vec<u8> {
    Archive::write(&archive.settings, archive.tensors.iter().map(|(n, e)| (n.as_str(), e)))
}

#[test]
fn altered_channels_are_an_error_or_consistent() {
    let bytes = bytes_of(&by_channel());
    for i in 0..bytes.len() - CHECKSUM {
        for flip in [1u8, 0x40, 0x80, 0xff] {
            let mut altered = bytes.clone();
            altered[i] ^= flip;
            assert!(Archive::read(&altered).is_err(), "byte {i} ^ {flip}");
            if let Ok(archive) = Archive::read(&resealed(altered)) {
                assert_eq!(Archive::read(&bytes_of(&archive)), Ok(archive));
            }
        }
        let cut = Archive::read(&bytes[..i]).expect_err("cut");
        assert!(matches!(cut, Error::Truncated { .. }), "{i}: {cut}");
    }
}

#[test]
fn channels_that_no_recording_gives_are_altered() {
    let refused = |write: &dyn Fn(&mut Writer)| {
        let bytes = seal(VERSION, Kind::Calibrator, |w| {
            w.text("{}");
            w.number(1);
            w.text("x");
            write(w);
        });
        assert!(matches!(Archive::read(&bytes), Err(Error::Altered(_))));
    };
    let of = |bits, values: &[f32]| {
        let mut h = Histogram::with_mantissa_bits(bits).expect("in range");
        h.record(values);
        h
    };
    let channels = |w: &mut Writer, observations, histograms: &[Histogram]| {
        w.raw(&[Kind::Channels as u8, 1]); // the axis is -1
        w.number(observations);
        w.number(histograms.len() as u64);
        for h in histograms {
            histogram::write(w, h);
        }
    };
    refused(&|w| channels(w, 1, &[]));
    refused(&|w| channels(w, 0, &[of(5, &[1.0])]));
    refused(&|w| channels(w, 1, &[of(5, &[1.0]), of(6, &[1.0])]));
    refused(&|w| channels(w, 1, &[of(5, &[1.0]), of(5, &[])]));
    refused(&|w| channels(w, 1, &[Histogram::of(&[1.0f32])]));
    refused(&|w| w.raw(&[9]));
}

#[test]
fn content_without_channels_is_written_as_version_1() {
    let whole = [("x".to_owned(), Entry::Tensor(TensorStats::default()))];
    let bytes = Archive::write("{}", whole.iter().map(|(n, e)| (n.as_str(), e)));
    assert_eq!((bytes[4], bytes_of(&by_channel())[4]), (1, 2));
    // As in version 1, there is no kind before the tensor.
    let first = seal(WITHOUT_CHANNELS, Kind::Calibrator, |w| {
        w.text("{}");
        w.number(1);
        w.text("x");
        write_tensor(w, &TensorStats::default());
    });
    assert_eq!(bytes, first);
}
