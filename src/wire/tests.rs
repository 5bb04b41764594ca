//! What only the inside can reach: bytes with a right checksum and a wrong content.

use super::*;

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
fn every_cut_is_called_a_cut() {
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
fn an_archive_that_claims_a_billion_tensors_reserves_nothing() {
    let bytes = seal(Kind::Calibrator, |w| {
        w.text("{}");
        w.number(1 << 40);
    });
    assert!(matches!(Archive::read(&bytes), Err(Error::Truncated { .. })));
}
