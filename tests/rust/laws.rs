//! The laws of a histogram, as properties.

use half::{bf16, f16};
use proptest::prelude::*;
use quantcal::{
    BufferedStats, Density, Histogram, QuantFormat, Scaling, TensorStats,
    search::{self, KlOptions, PercentileTails},
    wire::{Archive, Entry},
};

fn floats() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        400 => (-4.0f32..4.0).boxed(),
        100 => any::<u32>().prop_map(f32::from_bits).boxed(),
        100 => Just(0.0).boxed(),
        1 => prop::sample::select(vec![f32::INFINITY, f32::NEG_INFINITY, f32::NAN]).boxed(),
    ];
    prop::collection::vec(value, 0..4000)
}

/// Histograms of several element types and resolutions, and an empty one.
fn histograms() -> impl Strategy<Value = Histogram> {
    (floats(), 0..7u32).prop_map(|(values, kind)| match kind {
        0 => Histogram::new(),
        1 => Histogram::of(&values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>()),
        2 => Histogram::of(&values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>()),
        3 => Histogram::of(&values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>()),
        4 | 5 => {
            let mut h = Histogram::with_mantissa_bits(if kind == 4 { 3 } else { 12 }).expect("ok");
            h.record(&values);
            h
        }
        _ => Histogram::of(&values),
    })
}

/// Values at the edges of bins, and next to them.
fn ends() -> impl Strategy<Value = f32> {
    let edge = (0u32..0x7f80_0000, 11..=20u32, any::<bool>());
    prop_oneof![
        Just(0.0f32).boxed(),
        (0u32..4).prop_map(f32::from_bits).boxed(),
        (0u32..1 << 23).prop_map(f32::from_bits).boxed(),
        edge.prop_map(|(bits, low, beside)| f32::from_bits(bits >> low << low | u32::from(beside)))
            .boxed(),
        (1.0f32..1.02).boxed(),
        Just(1.0f32).boxed(),
        Just(1.0f32 + 1.0 / 256.0).boxed(),
    ]
    .prop_flat_map(|x| prop_oneof![Just(x), Just(-x)])
}

fn sum(a: &Histogram, b: &Histogram) -> Histogram {
    let mut sum = a.clone();
    sum.merge(b).expect("room");
    sum
}

proptest! {
    #[test]
    fn any_split_and_order_gives_the_same_bytes(
        values in floats(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        rotate in any::<prop::sample::Index>(),
    ) {
        let whole = Histogram::of(&values);
        let mut turned = values.clone();
        if !turned.is_empty() {
            turned.rotate_left(rotate.index(values.len()));
            turned.reverse();
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(values.len() + 1)).collect();
        cuts.sort_unstable();
        let mut merged = Histogram::new();
        merged.record::<f32>(&[]); // an empty observation sets the resolution, too
        let mut start = 0;
        for end in cuts.into_iter().chain([values.len()]) {
            merged.merge(&Histogram::of(&turned[start..end])).expect("room");
            start = end;
        }
        prop_assert_eq!(&merged, &whole);
        prop_assert_eq!(merged.to_bytes(), whole.to_bytes());
    }

    #[test]
    fn parts_counted_at_once_are_the_whole(
        values in floats(), times in 1..6usize, parts in 1..6usize, bits in 3..=12u32,
    ) {
        let values = values.repeat(times);
        let kind = Histogram::with_mantissa_bits(bits).expect("in range");
        let (mut whole, mut shared) = (kind.clone(), kind);
        let parts: Vec<&[f32]> = values.chunks(values.len().div_ceil(parts).max(1)).collect();
        let at_once = |work: &(dyn Fn(usize) + Sync)| {
            std::thread::scope(|scope| {
                (0..parts.len()).for_each(|part| drop(scope.spawn(move || work(part))));
            });
            Ok::<_, ()>(())
        };
        let extremes = shared.record_parts(&parts, at_once);
        prop_assert_eq!(extremes, Ok(whole.record(&values)));
        prop_assert_eq!(shared.to_bytes(), whole.to_bytes());
    }

    #[test]
    fn merging_is_associative_commutative_and_has_an_identity(
        a in histograms(), b in histograms(), c in histograms(),
    ) {
        prop_assert_eq!(sum(&a, &b), sum(&b, &a));
        prop_assert_eq!(sum(&sum(&a, &b), &c), sum(&a, &sum(&b, &c)));
        prop_assert_eq!(&sum(&a, &Histogram::new()), &a);
        prop_assert_eq!(&sum(&Histogram::new(), &a), &a);
        prop_assert_eq!(sum(&a, &b).to_bytes(), sum(&b, &a).to_bytes());
    }

    #[test]
    fn absorbing_is_merging(a in histograms(), b in histograms()) {
        for a in [a.like(), a, Histogram::new()] {
            let mut absorbed = a.clone();
            absorbed.absorb(b.clone()).expect("room");
            prop_assert_eq!(absorbed.to_bytes(), sum(&a, &b).to_bytes());
        }
    }

    /// Values around the ends of bins: zero, denormals, edges; few, so that bins have one value.
    #[test]
    fn every_value_lies_in_the_segment_that_counts_it(
        values in prop::collection::vec(ends(), 1..12), bits in 3..=12u32, fold in any::<bool>(),
    ) {
        let mut h = Histogram::with_mantissa_bits(bits).expect("in range");
        h.record(&values);
        let mut sorted: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        if fold {
            for x in &mut sorted {
                *x = x.abs();
            }
        }
        sorted.sort_by(f64::total_cmp);
        let density = if fold { Density::of_magnitudes(&h) } else { Density::new(&h) };
        let mut rest = &sorted[..];
        for segment in density.segments() {
            let (inside, behind) = rest.split_at(segment.count as usize);
            let code = |x: f64| (x as f32).to_bits() >> (23 - bits);
            for &x in inside {
                // With both signs, only the bin of the smallest magnitude is known.
                let found = (segment.low..=segment.high).contains(&x)
                    || (fold && segment.low < x && code(segment.low) == code(x));
                prop_assert!(found, "{x:e} {segment:?}");
            }
            rest = behind;
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn what_is_made_of_a_histogram_comes_back_from_its_bytes(
        values in prop::collection::vec(ends(), 0..12), bits in 3..=12u32, a in ends(), b in ends(),
    ) {
        let mut h = Histogram::with_mantissa_bits(bits).expect("in range");
        h.record(&values);
        let (low, high) = (f64::from(a.min(b)), f64::from(a.max(b)));
        let cut = h.crop(low, high).expect("in order");
        prop_assert!(cut.min().is_none_or(|x| (low..=high).contains(&f64::from(x)) || cut.finite() > 0));
        for made in [h.without_zeros(), h.magnitudes(), cut, h.coarsen(3).expect("coarser"), h] {
            prop_assert_eq!(Histogram::from_bytes(&made.to_bytes()), Ok(made));
        }
    }

    /// Distant bins are read as a list, which becomes pages when more is counted.
    #[test]
    fn a_histogram_that_was_read_goes_on_as_the_one_that_was_written(
        a in histograms(), b in histograms(), apart in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..40),
        values in floats(),
    ) {
        for h in [a, Histogram::of(&apart)] {
            let read = || Histogram::from_bytes(&h.to_bytes()).expect("just written");
            prop_assert_eq!(read().to_bytes(), h.to_bytes());
            prop_assert_eq!(sum(&read(), &b), sum(&h, &b));
            prop_assert_eq!(sum(&b, &read()), sum(&b, &h));
            prop_assert_eq!(read().coarsen(3), h.coarsen(3));
            prop_assert_eq!(sum(&Histogram::with_mantissa_bits(3).expect("ok"), &read()), h.coarsen(3).expect("ok"));
            prop_assert_eq!(read().magnitudes(), h.magnitudes());
            for values in [&values[..], &values[..values.len().min(5)], &vec![1e30; 5000][..]] {
                let (mut ours, mut theirs) = (read(), h.clone());
                ours.record(values);
                theirs.record(values);
                prop_assert_eq!(ours, theirs);
            }
        }
    }

    #[test]
    fn coarsening_is_recording_at_that_resolution(values in floats(), fine in 3..=12u32, coarse in 3..=12u32) {
        let at = |m| {
            let mut h = Histogram::with_mantissa_bits(m).expect("in range");
            h.record(&values);
            h
        };
        let (fine, coarse) = (fine.max(coarse), fine.min(coarse));
        prop_assert_eq!(at(fine).coarsen(coarse), Ok(at(coarse)));
    }

    #[test]
    fn bytes_come_back_as_they_went(h in histograms(), name in ".{0,20}", observations in 0..3usize) {
        prop_assert_eq!(Histogram::from_bytes(&h.to_bytes()), Ok(h.clone()));
        let mut stats = TensorStats::default();
        for _ in 0..observations {
            stats.include(h.clone()).expect("room");
        }
        let stats = Entry::Tensor(stats);
        let bytes = Archive::write("{}", [(name.as_str(), &stats)].into_iter());
        let archive = Archive::read(&bytes).expect("just written");
        prop_assert_eq!(archive.settings, "{}");
        prop_assert_eq!(archive.tensors, vec![(name, stats)]);
    }

    #[test]
    fn hostile_bytes_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..200), h in histograms(),
        at in any::<prop::sample::Index>(), new in any::<u8>()) {
        prop_assert!(Histogram::from_bytes(&bytes).is_err());
        prop_assert!(Archive::read(&bytes).is_err());
        let mut altered = h.to_bytes();
        let at = at.index(altered.len());
        prop_assume!(altered[at] != new);
        altered[at] = new;
        prop_assert!(Histogram::from_bytes(&altered).is_err());
    }

    #[test]
    fn scaling_by_a_power_of_two_scales_every_range_exactly(
        values in prop::collection::vec(-4.0f32..4.0, 1..500), power in -30..30i32,
    ) {
        // The values stay normal, so scaling them is exact.
        let values: Vec<f32> = values.into_iter().filter(|x| x.abs() > 1e-3).collect();
        prop_assume!(!values.is_empty());
        let factor = 2f32.powi(power);
        let scaled: Vec<f32> = values.iter().map(|x| x * factor).collect();
        let (h, g) = (Histogram::of(&values), Histogram::of(&scaled));
        for (format, scaling) in [(QuantFormat::INT8, Scaling::SYMMETRIC), (QuantFormat::UINT8, Scaling::AFFINE)] {
            let ranges = |h: &Histogram| [
                search::minmax(&Density::new(h)),
                search::percentile(h, 0.99, PercentileTails::Split, scaling.symmetric).expect("q"),
                search::kl(h, KlOptions { num_bins: 512, ..KlOptions::default() }, format, scaling).expect("bins"),
                search::mse(&Density::new(h), 2.0, format, scaling).expect("p"),
            ];
            for (r, s) in ranges(&h).into_iter().zip(ranges(&g)) {
                prop_assert_eq!(r.low * f64::from(factor), s.low);
                prop_assert_eq!(r.high * f64::from(factor), s.high);
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let mut r = crate::data::Random::new(3);
    // Several chunks for each thread, and a remainder, so that all ways of counting take part.
    let values: Vec<f32> = (0..(3 << 20) + 17).map(|_| r.gauss() as f32).collect();
    let expected = Histogram::of(&values[..1000]);
    let mut rest = Histogram::of(&values[1000..]);
    rest.merge(&expected).expect("room");
    for threads in [1, 2, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
        let histogram = pool.install(|| Histogram::of(&values));
        assert_eq!(histogram, rest, "{threads} threads");
        assert_eq!(histogram.to_bytes(), rest.to_bytes(), "{threads} threads");
    }
}

/// Finite values of one kind: usual ones, random bits, tiny ones inside or outside the bin of zero,
/// integers.
fn finite(kind: usize, len: usize, r: &mut crate::data::Random) -> Vec<f32> {
    let mut value = || match kind {
        0 => r.gauss() as f32,
        1 => f32::from_bits((r.bits() >> 32) as u32 & 0xff7f_ffff),
        2 => f32::from_bits((r.bits() >> 32) as u32 & 0x8001_ffff),
        3 => f32::from_bits((r.bits() >> 32) as u32 & 0x807f_ffff | 0x0010_0000),
        4 => f32::from_bits((r.bits() >> 32) as u32 & 0x800f_ffff | 0x8000),
        _ => -((r.bits() % 5) as f32),
    };
    (0..len).map(|_| value()).collect()
}

#[test]
fn buffered_extremes_are_counted_like_direct_ones() {
    let mut r = crate::data::Random::new(11);
    for mantissa_bits in [None, Some(3), Some(7), Some(8), Some(9), Some(12)] {
        let empty = || {
            mantissa_bits.map_or_else(Histogram::new, |bits| {
                Histogram::with_mantissa_bits(bits).expect("in range")
            })
        };
        for kinds in [vec![0], vec![1], vec![2], vec![3], vec![4], vec![5], vec![0, 1, 2, 3, 4, 5]]
        {
            let mut direct = TensorStats::new(empty());
            let mut gathered = BufferedStats::from(direct.clone());
            for n in 0..60 {
                let len = [1, 15, 16, 17, 100, 1024, 2047, 2048][n % 8];
                let mut values = finite(kinds[n % kinds.len()], len, &mut r);
                if n % 13 == 12 {
                    values[len / 2] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][n % 3];
                }
                direct.observe(&values);
                gathered.observe(&values);
                if [0, 3, 5].contains(&n) {
                    assert_eq!(&*gathered.clone().settled(), &direct, "few, {mantissa_bits:?}");
                }
            }
            assert_eq!(
                gathered.settled().to_bytes(),
                direct.to_bytes(),
                "kinds {kinds:?}, {mantissa_bits:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn gathering_small_observations_changes_nothing(
        parts in prop::collection::vec((floats(), 0..4u32), 0..12), step in 1..400usize,
    ) {
        let (mut direct, mut gathered) = (TensorStats::default(), BufferedStats::default());
        for (values, kind) in &parts {
            for chunk in values.chunks(if *kind == 0 { values.len().max(1) } else { step }) {
                if *kind == 3 {
                    let halves: Vec<f16> = chunk.iter().map(|&x| f16::from_f32(x)).collect();
                    direct.observe(&halves);
                    gathered.observe(&halves);
                } else {
                    direct.observe(chunk);
                    gathered.observe(chunk);
                }
            }
            if *kind == 2 {
                prop_assert_eq!(&*gathered.settled(), &direct); // read in between
            }
        }
        prop_assert_eq!(gathered.settled().to_bytes(), direct.to_bytes());
    }

    #[test]
    fn merging_what_still_waits_is_merging_what_was_counted(
        parts in prop::collection::vec((floats(), any::<bool>(), any::<bool>()), 0..12),
        bits in prop::option::of(3..=12u32),
    ) {
        let empty = |fixed: bool| match bits.filter(|_| fixed) {
            Some(bits) => Histogram::with_mantissa_bits(bits).expect("in range"),
            None => Histogram::new(),
        };
        let (mut counted, mut waiting) = (TensorStats::default(), BufferedStats::default());
        for (values, fixed, asked) in &parts {
            let mut part = TensorStats::new(empty(*fixed));
            let mut gathered = BufferedStats::from(part.clone());
            part.observe(values);
            gathered.observe(values);
            if *asked {
                gathered.settled();
            }
            counted.merge(&part).expect("room");
            waiting.merge(&gathered).expect("room");
        }
        prop_assert_eq!(waiting.settled().to_bytes(), counted.to_bytes());
    }
}
