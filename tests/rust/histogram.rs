//! Counting, and the answers that need no search.

use half::{bf16, f16};
use quantcal::{
    Density, Error, Histogram, TensorStats,
    histogram::{MAX_COUNT, RawCounts},
};

use crate::{data, naive};

/// The bins of a histogram in the form of the oracle, read through the public segments.
fn assert_counts(histogram: &Histogram, values: &[f32]) {
    let count = |f: &dyn Fn(&f32) -> bool| values.iter().filter(|x| f(x)).count() as u64;
    assert_eq!(histogram.count(), values.len() as u64);
    assert_eq!(histogram.zeros(), count(&|x| *x == 0.0));
    assert_eq!(histogram.nan(), count(&|x| x.is_nan()));
    assert_eq!(histogram.posinf(), count(&|x| *x == f32::INFINITY));
    assert_eq!(histogram.neginf(), count(&|x| *x == f32::NEG_INFINITY));
    let finite = || values.iter().copied().filter(|x| x.is_finite());
    assert_eq!(histogram.min(), finite().reduce(f32::min).map(|x| x + 0.0));
    assert_eq!(histogram.max(), finite().reduce(f32::max).map(|x| x + 0.0));
    let mantissa_bits = histogram.mantissa_bits().expect("something was observed");
    let density = Density::new(histogram);
    let found: Vec<u64> = density
        .segments()
        .iter()
        .filter(|s| s.low != 0.0 || s.high != 0.0)
        .map(|s| s.count)
        .collect();
    let bins = naive::bins(values, mantissa_bits);
    let negative = bins.iter().rev().filter(|((negative, _), _)| *negative);
    let positive = bins.iter().filter(|((negative, _), _)| !negative);
    let expected: Vec<u64> = negative.chain(positive).map(|(_, &n)| n).collect();
    assert_eq!(found, expected);
}

fn hostile(n: usize) -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1e-45,
        -1e-45,
        1e-40,
        1.0,
        -1.0,
    ];
    let mut r = data::Random::new(n as u64);
    (0..n)
        .map(|_| match r.bits() % 4 {
            0 => special[(r.bits() % special.len() as u64) as usize],
            1 => f32::from_bits(r.bits() as u32),
            _ => r.gauss() as f32,
        })
        .collect()
}

#[test]
fn every_bit_pattern_is_counted_at_every_size_and_resolution() {
    // Around the limits between the ways of counting, and at odd sizes.
    for n in
        [0, 1, 2, 15, 17, 3071, 3072, 3073, 10_003, (1 << 18) + 1, (1 << 20) - 1, (1 << 20) + 3]
    {
        let values = hostile(n);
        for m in [3, 7, 8, 10, 12] {
            let mut histogram = Histogram::with_mantissa_bits(m).expect("in range");
            histogram.record(&values);
            assert_counts(&histogram, &values);
        }
    }
}

#[test]
fn all_sixteen_bit_patterns_are_their_own_bins() {
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let histogram = Histogram::of(&halves);
    assert!(histogram.is_exact());
    assert_eq!(histogram.mantissa_bits(), Some(10));
    assert_counts(&histogram, &halves.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
    assert_eq!(Density::new(&histogram).segments().len(), 2 * (31 * 1024 - 1) + 1);

    let brains: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    let histogram = Histogram::of(&brains);
    assert!(histogram.is_exact());
    assert_eq!(histogram.mantissa_bits(), Some(7));
    assert_counts(&histogram, &brains.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
    assert_eq!(Density::new(&histogram).segments().len(), 2 * (255 * 128 - 1) + 1);
}

#[test]
fn more_equal_values_than_a_scratch_counter_holds_are_all_counted() {
    type Values = Box<dyn Fn(usize) -> f32>;
    const N: usize = 300_000; // far more than 2^16, in one chunk
    let few = |values: &'static [f32]| {
        move |i: usize| values[(i * 7 + i / 11) % values.len()] // no step of 128 is constant
    };
    let kinds: [(&str, Values); 5] = [
        ("constant", Box::new(|_| 0.375)),
        ("two values, none of them zero", Box::new(few(&[-1.5, 0.375]))),
        ("zeros, and denormals that share their bin", Box::new(few(&[0.0, -0.0, 1e-45, -1e-45]))),
        ("denormals of float16", Box::new(few(&[1.0 / 16_777_216.0, -1.0 / 32_768.0, 0.0]))),
        ("not finite", Box::new(few(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0]))),
    ];
    for (kind, value) in &kinds {
        // Some rare values among them, so that samples of whole blocks show no repetition.
        let values: Vec<f32> =
            (0..N).map(|i| if i % 4096 < 128 { 1.0 + i as f32 / 3e5 } else { value(i) }).collect();
        for values in [&values[..], &values[128..4096 + 70_000]] {
            println!("{kind}, {} values", values.len());
            assert_counts(&Histogram::of(values), values);
            let doubles: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
            assert_counts(&Histogram::of(&doubles), values);
            let half: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
            let same: Vec<f32> = half.iter().map(|x| x.to_f32()).collect();
            assert_counts(&Histogram::of(&half), &same);
            let brain: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
            let same: Vec<f32> = brain.iter().map(|x| x.to_f32()).collect();
            assert_counts(&Histogram::of(&brain), &same);
        }
    }
}

#[test]
fn values_that_share_their_bin_with_zero_are_distinguished_from_zeros() {
    const N: usize = 1 << 20; // one chunk
    let r = &mut data::Random::new(12);
    let values: Vec<f32> = (0..N).map(|_| 1.0 + r.gauss() as f32).collect();
    for zeros in [0, 5, 65_536, 70_000] {
        for tiny in [1, 144, 65_536, 70_000, 200_000] {
            let mut values = values.clone();
            let (step, others) = (N / (zeros + tiny), [1e-45f32, -1e-45, 3e-41]);
            for (i, x) in values.iter_mut().step_by(step).take(zeros + tiny).enumerate() {
                // Alternating, as long as there are as many of both.
                let is_zero = i % 2 == 0 && i / 2 < zeros || i >= 2 * tiny;
                *x = if is_zero { [0.0, -0.0][i / 2 % 2] } else { others[i / 2 % 3] };
            }
            println!("{zeros} zeros, {tiny} tiny values");
            assert_counts(&Histogram::of(&values), &values);
        }
    }
}

#[test]
fn chunks_with_wrapped_counters_and_chunks_without_can_alternate() {
    const CHUNK: usize = 1 << 20; // an eighth of it is more than 2^16
    let r = &mut data::Random::new(11);
    let mut values: Vec<f32> = (0..5 * CHUNK).map(|_| r.gauss() as f32).collect();
    for chunk in [1, 3, 4] {
        for x in values[chunk * CHUNK..][..CHUNK].iter_mut().filter(|_| r.bits().is_multiple_of(8))
        {
            *x = [0.75, 1e-45, 1.5][chunk % 3];
        }
    }
    assert_counts(&Histogram::of(&values), &values);
    let brain: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
    let same: Vec<f32> = brain.iter().map(|x| x.to_f32()).collect();
    assert_counts(&Histogram::of(&brain), &same);
    let mut by_chunk = Histogram::new();
    for chunk in values.chunks(CHUNK / 5) {
        by_chunk.record(chunk); // too few for a second thread
    }
    assert!(by_chunk == Histogram::of(&values));
}

#[test]
fn double_precision_is_rounded_first_and_overflow_is_infinite() {
    let values = [0.1f64, 1e39, -1e300, 1e-60, f64::NAN];
    let histogram = Histogram::of(&values);
    assert_counts(&histogram, &values.map(|x| x as f32));
    assert_eq!((histogram.posinf(), histogram.neginf(), histogram.zeros()), (1, 1, 1));
}

#[test]
fn the_resolution_follows_the_coarsest_element_type() {
    let mut histogram = Histogram::new();
    assert_eq!(histogram.mantissa_bits(), None);
    histogram.record(&[f16::from_f32(1.5)]);
    assert_eq!(histogram.mantissa_bits(), Some(10));
    histogram.record(&[1.0f32]);
    assert_eq!((histogram.mantissa_bits(), histogram.is_exact()), (Some(8), true));
    histogram.record(&[f32::from_bits(1.0f32.to_bits() + 1)]);
    assert!(!histogram.is_exact());
    histogram.record(&[bf16::from_f32(1.0)]);
    assert_eq!(histogram.mantissa_bits(), Some(7));

    let mut fixed = Histogram::with_mantissa_bits(12).expect("in range");
    fixed.record(&[bf16::from_f32(1.0)]);
    assert_eq!(fixed.mantissa_bits(), Some(12));
}

#[test]
fn quantiles_are_order_statistics_of_sixteen_bit_data_and_within_a_bin_otherwise() {
    for (name, values) in data::shapes(4096) {
        let exact: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        let rounded: Vec<f32> = exact.iter().map(|x| x.to_f32()).collect();
        let (exact, binned) = (Histogram::of(&exact), Histogram::of(&values));
        let magnitudes: Vec<f32> = rounded.iter().map(|x| x.abs()).collect();
        for q in [0.0, 1.0 / 4096.0, 0.25, 0.5, 0.75, 1023.0 / 1024.0, 1.0 - 1.0 / 4096.0, 1.0] {
            let found = exact.quantile(q).expect("q").expect("values");
            assert_eq!(found, f64::from(naive::quantile(&rounded, q)), "{name} {q}");
            let found = exact.abs_quantile(q).expect("q").expect("values");
            assert_eq!(found, f64::from(naive::quantile(&magnitudes, q)), "{name} |{q}|");
            let found = binned.quantile(q).expect("q").expect("values");
            let truth = f64::from(naive::quantile(&values, q));
            assert!((found - truth).abs() <= truth.abs() / 256.0, "{name} {q}: {found} {truth}");
        }
        assert_eq!(binned.quantile(0.0), Ok(binned.min().map(f64::from)), "{name}");
        assert_eq!(binned.quantile(1.0), Ok(binned.max().map(f64::from)), "{name}");
    }
    assert_eq!(Histogram::new().quantile(0.5), Ok(None));
    assert_eq!(Histogram::new().quantile(1.5), Err(Error::Quantile(1.5)));
    assert!(Histogram::new().quantile(f64::NAN).is_err());
}

#[test]
fn moments_are_those_of_the_data() {
    for (name, values) in data::shapes(10_000) {
        let values: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        let moments = Histogram::of(&values).moments();
        let x: Vec<f64> = values.iter().map(|x| x.to_f64()).collect();
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let central = |p: i32| x.iter().map(|x| (x - mean).powi(p)).sum::<f64>() / n;
        let deviation = x.iter().map(|x| (x - mean).abs()).sum::<f64>() / n;
        // 10^4 additions in another order: 10^4 · 2^-53 relative, with a margin.
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-10 * (1.0 + b.abs());
        assert!(near(moments.mean, mean), "{name}");
        assert!(near(moments.std, central(2).sqrt()), "{name}");
        assert!(near(moments.mean_abs_deviation, deviation), "{name}");
        if central(2) > 0.0 {
            assert!(near(moments.kurtosis, central(4) / central(2).powi(2)), "{name}");
        }
    }
}

#[test]
fn the_mean_absolute_deviation_inside_a_bin_is_that_of_an_even_density() {
    for (sign, few) in [(1.0f32, 1), (-1.0, 3)] {
        // One evenly filled bin: its values lie a quarter of its width from their mean. The others
        // move the mean within the bin.
        let mut values: Vec<f32> = (0..1001).map(|i| sign * (1.0 + i as f32 * 1e-4)).collect();
        values.extend(vec![sign * 1.5; few]);
        let mut histogram = Histogram::with_mantissa_bits(3).expect("in range");
        histogram.record(&values);
        let moments = histogram.moments();
        let (a, b, n) = (1.0, f64::from(1.125f32 - f32::EPSILON), values.len() as f64);
        let mean = (1001.0 * 0.5 * (a + b) + few as f64 * 1.5) / n;
        let inside = ((mean - a).powi(2) + (b - mean).powi(2)) / (2.0 * (b - a));
        let expected = (1001.0 * inside + few as f64 * (1.5 - mean)) / n;
        let found = moments.mean_abs_deviation;
        assert!((moments.mean - f64::from(sign) * mean).abs() < 1e-3, "{} {mean}", moments.mean);
        assert!((found - expected).abs() < 1e-3 * expected, "{found} {expected}");
    }
}

#[test]
fn coarsening_to_a_finer_resolution_is_refused() {
    let histogram = Histogram::of(&[1.0f32, 2.0]);
    assert_eq!(histogram.coarsen(9), Err(Error::Refine { have: 8, want: 9 }));
    assert_eq!(histogram.coarsen(2), Err(Error::MantissaBits(2)));
    assert_eq!(histogram.coarsen(5).map(|h| h.mantissa_bits()), Ok(Some(5)));
}

#[test]
fn counts_beyond_each_part_of_a_counter_are_exact_in_every_way_of_adding() {
    let values = [1.0f32, -3.0, 1.0];
    // Counters have parts of 8, 32 and more bits. 1.0 was counted twice 2^d times, −3.0 half as
    // often. Now each way of adding crosses the limits.
    let doublings = [6, 7, 31, 38, 39, 40];
    for (d, n) in doublings.into_iter().flat_map(|d| [5, 100, 5000, 1 << 20].map(|n| (d, n))) {
        let mut doubled = Histogram::of(&values);
        for _ in 0..d {
            let twice = doubled.clone();
            doubled.merge(&twice).expect("room");
        }
        let mut more = doubled.clone();
        more.record(&vec![-3.0f32; n]);
        more.merge(&doubled).expect("room");
        more.record(&vec![-3.0f32; n]);
        more.merge(&Histogram::of(&vec![1.0f32; n])).expect("room");
        let counts: Vec<u64> = Density::new(&more).segments().iter().map(|s| s.count).collect();
        let n = n as u64;
        assert_eq!(counts, [(2 << d) + 2 * n, (4 << d) + n]);
        assert_eq!(Histogram::from_bytes(&more.to_bytes()).as_ref(), Ok(&more));
        assert_eq!(more.coarsen(3).expect("coarser").coarsen(3), more.coarsen(3));
        let coarse = more.coarsen(3).expect("coarser");
        assert_eq!(Density::new(&coarse).segments(), Density::new(&more).segments());
        let mut alone = doubled.clone();
        alone.merge(&doubled).expect("room");
        assert_ne!(alone, doubled);
    }
}

#[test]
fn more_values_than_can_be_counted_are_refused_and_nothing_changes() {
    // Each kind of value may reach the limit alone, but all together may not exceed it.
    let first = [1.0f32, 0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -2.0, 1.0, 3.5];
    for values in [&first[..1], &first[1..2], &first[2..3], &first[..2], &first[..4], &first] {
        let mut h = Histogram::of(values);
        let (mut refused, len) = (0, values.len() as u64);
        for d in 1..70 {
            let (before, want) = (h.clone(), u128::from(len) << (d - refused));
            let merged = h.merge(&before);
            if want > u128::from(MAX_COUNT) {
                let count = 2 * before.count();
                assert_eq!(merged, Err(Error::TooMany { count }));
                assert_eq!(h, before);
                refused += 1;
            } else {
                assert_eq!((merged, u128::from(h.count())), (Ok(()), want));
            }
            assert_eq!(Histogram::from_bytes(&h.to_bytes()).as_ref(), Ok(&h));
        }
        assert_eq!((refused, h.count()), (9 + len.ilog2(), MAX_COUNT));
        assert!(h.check_room(0).is_ok() && h.check_room(1).is_err());
        let mut stats = TensorStats::new(h.like());
        stats.include(h.clone()).expect("room");
        let before = stats.clone();
        assert!(stats.include(Histogram::of(&[1.0f32])).is_err());
        assert!(stats.merge(&before).is_err());
        assert_eq!(stats, before);
        assert_eq!(TensorStats::from_bytes(&stats.to_bytes()), Ok(stats));
    }
}

#[test]
fn more_observations_than_can_be_counted_are_refused() {
    let of = |n| TensorStats::from_counts(Histogram::new(), n, Histogram::new(), Histogram::new());
    let mut stats = of(MAX_COUNT).expect("as many as there may be");
    assert!(of(MAX_COUNT + 1).is_err());
    assert_eq!(stats.merge(&of(1).expect("one")), Err(Error::TooMany { count: MAX_COUNT + 1 }));
    assert!(stats.include(Histogram::new()).is_err());
    assert_eq!(stats.observations, MAX_COUNT);
    assert_eq!(TensorStats::from_bytes(&stats.to_bytes()), Ok(stats));
}

#[test]
fn the_bin_of_zero_is_not_exact() {
    let counts = RawCounts {
        mantissa_bits: 8,
        exact: true,
        zeros: 1,
        extremes: Some((0.0, 1.0)),
        bins: vec![(0, 1), (127 << 8, 1)],
        ..RawCounts::default()
    };
    assert!(Histogram::from_counts(&RawCounts { exact: false, ..counts.clone() }).is_ok());
    assert!(matches!(Histogram::from_counts(&counts), Err(Error::Counts(_))));
}

#[test]
fn raw_counts_make_the_histogram_that_was_recorded() {
    let mut recorded = Histogram::new();
    recorded.record(&[1.0f32, 1.0, -2.5, 0.0, f32::NAN, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    let counts = RawCounts {
        mantissa_bits: 8,
        exact: true,
        zeros: 1,
        nan: 1,
        neginf: 2,
        extremes: Some((-2.5, 1.0)),
        bins: vec![
            (u64::from(1.0f32.to_bits() >> 15), 2),
            (u64::from((-2.5f32).to_bits() >> 15), 1),
        ],
        ..RawCounts::default()
    };
    assert_eq!(Histogram::from_counts(&counts), Ok(recorded));
}

#[test]
fn counts_that_no_recording_gives_are_refused() {
    let sound = RawCounts {
        mantissa_bits: 8,
        exact: true,
        extremes: Some((1.0, 1.0)),
        bins: vec![(u64::from(1.0f32.to_bits() >> 15), 2)],
        ..RawCounts::default()
    };
    assert!(Histogram::from_counts(&sound).is_ok());
    let (code, far) = (sound.bins[0].0, 1 << 40);
    for changed in [
        RawCounts { bins: vec![(code, 0)], ..sound.clone() },
        RawCounts { bins: vec![(code, u64::MAX)], ..sound.clone() },
        RawCounts { bins: vec![(code, 1), (code, 1)], ..sound.clone() },
        RawCounts { bins: vec![(code, 1), (far, 1)], ..sound.clone() },
        RawCounts { bins: vec![(code, 1), (255 << 8, 1)], ..sound.clone() },
        RawCounts { bins: Vec::new(), ..sound.clone() },
        RawCounts { nan: u64::MAX, ..sound.clone() },
        RawCounts { extremes: None, ..sound.clone() },
        RawCounts { extremes: Some((1.0, f32::NAN)), ..sound.clone() },
        RawCounts { extremes: Some((-1.0, 1.0)), ..sound.clone() },
        RawCounts { zeros: 1, ..sound.clone() },
        RawCounts { zeros: 1, extremes: Some((-0.0, 1.0)), ..sound.clone() },
        RawCounts { extremes: Some((1.0, 1.001)), ..sound.clone() },
    ] {
        let refused = Histogram::from_counts(&changed);
        assert!(matches!(refused, Err(Error::Counts(_))), "{changed:?}");
    }
    let wide = RawCounts { mantissa_bits: 13, ..sound };
    assert_eq!(Histogram::from_counts(&wide), Err(Error::MantissaBits(13)));
}
