//! The search by divergence, against the textbook loop and between its options.

use quantcal::{
    Density, Histogram, QuantFormat, Scaling,
    search::{self, KlOptions},
};

use crate::{data, methods::rounded, naive};

fn format(name: &str) -> QuantFormat {
    QuantFormat::parse(name).expect("known")
}

#[test]
fn two_sided_divergence_is_that_of_the_best_window() {
    let mut missed = 0;
    for seed in 0..30 {
        let mut r = data::Random::new(seed);
        let skew = r.uniform() * 2.0;
        let values: Vec<f32> = (0..4_000)
            .map(|_| {
                let x = if seed % 2 == 0 { r.gauss() } else { r.laplace() };
                (if x > 0.0 { x * (1.0 + skew) } else { x }) as f32
            })
            .collect();
        let exact = rounded(&values);
        let histogram = Histogram::of(&exact);
        let density = Density::new(&histogram);
        let (num_bins, levels) = (256, 16);
        let range = search::minmax(&density);
        let counts = histogram.rebin(num_bins, range.low, range.high).expect("in order");
        let options = KlOptions { num_bins, num_levels: Some(levels), ..KlOptions::default() };
        let found = search::kl(&histogram, options, QuantFormat::UINT8, Scaling::AFFINE);
        let found = found.expect("bins");
        let bin = |x: f64| ((x - range.low) / (range.high - range.low) * 256.0).round() as usize;
        let zero = bin(0.0).min(num_bins - 1);
        let at = |start: usize, end: usize| naive::window_divergence(&counts, start, end, levels);
        let mut least = f64::INFINITY;
        for start in 0..=zero {
            for end in (zero + 1).max(start + levels)..=num_bins {
                least = least.min(at(start, end));
            }
        }
        let found = at(bin(found.low), bin(found.high));
        missed += usize::from(found > least + 1e-9);
        assert!(found <= 1.3 * least + 1e-9, "seed {seed}: {found} {least}");
    }
    assert!(missed <= 6, "{missed} of 30 windows are not the best");
}

#[test]
fn divergence_follows_the_levels_of_a_floating_format() {
    // Groups by the real levels of float4_e2m1fn: 0, 0.5, 1, 1.5, 2, 3, 4, 6.
    let mut r = data::Random::new(3);
    let values: Vec<f32> = (0..5_000).map(|_| r.laplace().abs() as f32).collect();
    let histogram = Histogram::of(&values);
    let max = f64::from(histogram.max().expect("values"));
    let counts = histogram.rebin(240, 0.0, max).expect("in order");
    let ends = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0];
    let mut best = (f64::INFINITY, 0);
    for end in 8..=240usize {
        let group = |k: usize| ends.iter().position(|e| (k as f64) < (e / 6.0 * end as f64).ceil());
        let d = naive::grouped_divergence(&counts, 0, end, &|k| group(k).unwrap_or(7));
        if d <= best.0 {
            best = (d, end);
        }
    }
    let options = KlOptions { num_bins: 240, ..KlOptions::default() };
    let found = search::kl(&histogram, options, format("float4_e2m1fn"), Scaling::SYMMETRIC);
    let end = (found.expect("bins").high / max * 240.0).round() as usize;
    assert_eq!(end, best.1);
}

#[test]
fn symmetric_two_sided_windows_lie_around_zero() {
    let mut r = data::Random::new(5);
    let values: Vec<f32> = (0..50_000).map(|_| r.laplace() as f32).collect();
    let histogram = Histogram::of(&values);
    let max = f64::from(histogram.abs_max().expect("values"));
    let options = KlOptions { two_sided: Some(true), ..KlOptions::default() };
    let found = search::kl(&histogram, options, QuantFormat::INT8, Scaling::SYMMETRIC);
    let found = found.expect("bins");
    assert_eq!(found.low, -found.high);
    let counts = histogram.rebin(2048, -max, max).expect("in order");
    let least = (128..=1024)
        .map(|half| (naive::window_divergence(&counts, 1024 - half, 1024 + half, 255), half))
        .fold((f64::INFINITY, 0), |best, d| if d.0 <= best.0 { d } else { best });
    assert_eq!((found.high / max * 1024.0).round() as usize, least.1);
}

#[test]
fn two_sided_symmetric_thresholds_are_edges_of_the_view() {
    for (name, values) in data::shapes(3000) {
        let histogram = Histogram::of(&values);
        let (min, max) = (histogram.min().expect("values"), histogram.max().expect("values"));
        if min >= 0.0 || max <= 0.0 {
            continue;
        }
        let most = f64::from(histogram.abs_max().expect("values"));
        for num_bins in [63, 64, 511, 512] {
            let options = KlOptions { num_bins, two_sided: Some(true), ..KlOptions::default() };
            let format = format("int4");
            let t = search::kl(&histogram, options, format, Scaling::SYMMETRIC).expect("bins").high;
            let bins = t / most * num_bins as f64; // on both sides together
            assert!((bins - bins.round()).abs() < 1e-9, "{name}, {num_bins} bins: {bins}");
            assert_eq!(bins.round() as usize % 2, num_bins % 2, "{name}: {bins} of {num_bins}");
        }
    }
}

#[test]
fn zeros_do_not_decide_a_divergence() {
    let mut r = data::Random::new(11);
    let values: Vec<f32> = (0..200_000).map(|_| r.gauss().max(0.0) as f32).collect();
    let positive: Vec<f32> = values.iter().copied().filter(|&x| x > 0.0).collect();
    let negative: Vec<f32> = values.iter().map(|x| -x).collect();
    for (format, scaling) in
        [(QuantFormat::INT8, Scaling::SYMMETRIC), (QuantFormat::UINT8, Scaling::AFFINE)]
    {
        let kl = |values: &[f32]| {
            let options = KlOptions::default();
            search::kl(&Histogram::of(values), options, format, scaling).expect("bins")
        };
        let (all, some, mirrored) = (kl(&values), kl(&positive), kl(&negative));
        assert_eq!(all, some);
        assert!((all.high + mirrored.low).abs() < 1e-9 && all.high > 3.0, "{all:?} {mirrored:?}");
    }
    let histogram = Histogram::of(&[0.0f32, 0.5, 2.0, 0.0, f32::NAN]);
    let rest = histogram.without_zeros();
    assert_eq!(Histogram::from_bytes(&rest.to_bytes()).expect("sound"), rest);
    assert_eq!((rest.count(), rest.zeros(), rest.min(), rest.max()), (3, 0, Some(0.5), Some(2.0)));
    assert_eq!(Histogram::of(&[0.0f32; 4]).without_zeros().min(), None);
}

#[test]
fn there_are_as_many_groups_as_the_grid_has_levels() {
    let find = |values: &[f32], options: KlOptions, name: &str, scaling| {
        search::kl(&Histogram::of(values), options, format(name), scaling).expect("bins")
    };
    let mut different = 0;
    for seed in 0..8 {
        let mut r = data::Random::new(seed);
        let both: Vec<f32> = (0..3_000).map(|_| r.laplace() as f32).collect();
        let positive: Vec<f32> = both.iter().map(|x| x.abs()).collect();
        for (values, two_sided, scaling, levels) in [
            (&both, Some(true), Scaling::SYMMETRIC, 15),
            (&both, None, Scaling::SYMMETRIC, 8),
            (&both, None, Scaling::AFFINE, 16),
            (&positive, None, Scaling::AFFINE, 16),
            (&both, Some(false), Scaling::AFFINE, 16),
        ] {
            let options = KlOptions { num_bins: 240, two_sided, ..KlOptions::default() };
            let of = |num_levels| KlOptions { num_levels: Some(num_levels), ..options };
            for name in ["int4", "uint4"] {
                let found = find(values, options, name, scaling);
                assert_eq!(found, find(values, of(levels), name, scaling), "{levels} for {name}");
                different += usize::from(found != find(values, of(levels + 1), name, scaling));
            }
        }
    }
    assert!(different >= 20, "{different} of 80 ranges depend on the number of groups");
}
