//! Each search, against an exhaustive one with the textbook formula.

use half::f16;
use quantcal::{Density, Histogram, QuantFormat, Range, Scaling, search, search::PercentileTails};

use crate::{data, naive};

fn options(num_bins: usize) -> search::KlOptions {
    search::KlOptions { num_bins, ..search::KlOptions::default() }
}

/// The error of the range on the raw values, relative to the minimum of an exhaustive scan.
fn regret(values: &[f32], format: QuantFormat, scaling: Scaling, range: Range, scan: f64) -> f64 {
    naive::mse(values, format.grid(range, scaling)) / scan - 1.0
}

#[test]
fn mse_finds_the_best_symmetric_threshold() {
    for (name, values) in data::shapes(20_000) {
        let histogram = Histogram::of(&values);
        let most = f64::from(histogram.abs_max().expect("values"));
        let format = QuantFormat::INT8;
        let candidates = (1..=800).map(|i| most * f64::from(i) / 800.0);
        let least = candidates
            .map(|t| naive::mse(&values, format.grid(Range::symmetric(t), Scaling::SYMMETRIC)))
            .fold(f64::INFINITY, f64::min);
        let range =
            search::mse(&Density::new(&histogram), 2.0, format, Scaling::SYMMETRIC).expect("p");
        if least > 1e-14 * most * most {
            let regret = regret(&values, format, Scaling::SYMMETRIC, range, least);
            assert!(regret <= 0.002, "{name}: {:.3} % worse than the scan", regret * 100.0);
        } else {
            // A constant lies exactly on a grid point, so errors are only rounding noise.
            let found = naive::mse(&values, format.grid(range, Scaling::SYMMETRIC));
            assert!(found <= 1e-9 * most * most, "{name}: {found}");
        }
    }
}

#[test]
fn mse_finds_the_best_affine_range() {
    for (name, values) in data::shapes(20_000) {
        let histogram = Histogram::of(&values);
        let (min, max) =
            (f64::from(histogram.min().unwrap_or(0.0)), f64::from(histogram.max().unwrap_or(0.0)));
        let format = QuantFormat::UINT8;
        let mut least = f64::INFINITY;
        for i in 1..=40 {
            for j in 1..=40 {
                let range = Range {
                    low: min.min(0.0) * f64::from(i) / 40.0,
                    high: max.max(0.0) * f64::from(j) / 40.0,
                };
                least = least.min(naive::mse(&values, format.grid(range, Scaling::AFFINE)));
            }
        }
        let range =
            search::mse(&Density::new(&histogram), 2.0, format, Scaling::AFFINE).expect("p");
        if least > 1e-14 {
            let regret = regret(&values, format, Scaling::AFFINE, range, least);
            assert!(regret <= 0.002, "{name}: {:.3} % worse than the scan", regret * 100.0);
        }
    }
}

#[test]
fn the_expected_error_is_the_true_one() {
    for (name, values) in data::shapes(20_000) {
        let exact: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        let rounded: Vec<f32> = exact.iter().map(|x| x.to_f32()).collect();
        for (format, scaling) in
            [(QuantFormat::INT8, Scaling::SYMMETRIC), (QuantFormat::UINT8, Scaling::AFFINE)]
        {
            let density = Density::new(&Histogram::of(&exact));
            for share in [0.2, 0.7, 1.0] {
                let range = search::minmax(&density);
                let range = Range { low: range.low * share, high: range.high * share };
                let grid = format.grid(range, scaling);
                let truth = naive::mse(&rounded, grid);
                let found = search::grid_error(&density, grid);
                let noise = 1e-12 * density.abs_max().powi(2); // of the prefix sums
                assert!(
                    (found.mse - truth).abs() <= 1e-9 * truth + noise,
                    "{name} {found:?} {truth}"
                );
                let limits = grid.range(Scaling::AFFINE);
                let half = 0.5 * f64::from(grid.scale());
                let outside = rounded.iter().map(|&x| f64::from(x));
                let outside =
                    outside.filter(|&x| x < limits.low - half || x > limits.high + half).count();
                assert_eq!(found.clipped, outside as f64 / 20_000.0, "{name}");
                let zeroed = rounded.iter().filter(|x| f64::from(x.abs()) <= half).count();
                assert_eq!(found.rounded_to_zero, zeroed as f64 / 20_000.0, "{name}");
            }
            // With bins instead of values, within a third of a percent at 8 mantissa bits.
            let density = Density::new(&Histogram::of(&values));
            let grid =
                format.grid(search::mse(&density, 2.0, format, scaling).expect("p"), scaling);
            let (truth, found) =
                (naive::mse(&values, grid), search::grid_error(&density, grid).mse);
            if truth > 1e-12 {
                assert!((found / truth - 1.0).abs() <= 0.0033, "{name}: {found} {truth}");
            }
        }
    }
}

#[test]
fn kl_chooses_as_the_textbook_loop_on_random_histograms() {
    for seed in 0..200 {
        let mut r = data::Random::new(seed);
        let num_bins = 200 + (r.bits() % 300) as usize;
        let levels = if seed % 2 == 0 { 128 } else { 64 };
        let sparse = r.uniform();
        let counts: Vec<u64> = (0..num_bins)
            .map(|k| {
                let scale = 1000.0 * (-(k as f64) / (0.2 * num_bins as f64)).exp();
                if r.uniform() < sparse { 0 } else { (r.uniform() * scale) as u64 + r.bits() % 2 }
            })
            .collect();
        let fast = search::divergences(&counts, levels);
        assert_eq!(fast.len(), num_bins + 1 - levels);
        for (k, &found) in fast.iter().enumerate() {
            let truth = naive::divergence(&counts, levels + k, levels);
            let same = (found == truth) || (found - truth).abs() <= 1e-9;
            assert!(same || truth.is_nan(), "seed {seed}, {} bins: {found} {truth}", levels + k);
        }
    }
}

#[test]
fn kl_picks_the_minimum_divergence_and_the_widest_of_equals() {
    // Values k/512 make uniform bins whose counts are known.
    for seed in 0..20 {
        let mut r = data::Random::new(seed);
        let values: Vec<f32> =
            (0..5000).map(|_| ((r.laplace().abs() * 40.0) as u32).min(511) as f32 + 0.5).collect();
        let mut histogram = Histogram::with_mantissa_bits(12).expect("in range");
        histogram.record(&values);
        let max = f64::from(histogram.max().expect("values"));
        let counts = histogram.rebin(512, 0.0, max).expect("in order");
        let truth: Vec<f64> = (128..=512).map(|end| naive::divergence(&counts, end, 128)).collect();
        let least = truth.iter().copied().fold(f64::INFINITY, f64::min);
        let range = search::kl(&histogram, options(512), QuantFormat::INT8, Scaling::SYMMETRIC)
            .expect("bins");
        let end = (range.high / max * 512.0).round() as usize;
        assert!(truth[end - 128] <= least + 1e-9, "seed {seed}: {end}");
    }
}

#[test]
fn two_sided_kl_contains_zero_and_nothing_beyond_the_data() {
    for (name, values) in data::shapes(20_000) {
        let histogram = Histogram::of(&values);
        let range = search::minmax(&Density::new(&histogram));
        if range.low >= 0.0 || range.high <= 0.0 {
            continue;
        }
        let found = search::kl(&histogram, options(2048), QuantFormat::UINT8, Scaling::AFFINE)
            .expect("bins");
        assert!(found.low <= 0.0 && found.high >= 0.0, "{name}");
        assert!(found.low >= range.low && found.high <= range.high, "{name}");
    }
}

#[test]
fn percentiles_cover_their_share() {
    for (name, values) in data::shapes(10_000) {
        let exact: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        let rounded: Vec<f32> = exact.iter().map(|x| x.to_f32()).collect();
        let magnitudes: Vec<f32> = rounded.iter().map(|x| x.abs()).collect();
        let histogram = Histogram::of(&exact);
        for q in [0.5, 0.75, 0.9375, 1.0] {
            let range = search::percentile(&histogram, q, PercentileTails::Split, true).expect("q");
            assert_eq!(range.high, f64::from(naive::quantile(&magnitudes, q)), "{name} {q}");
            assert_eq!(range.low, -range.high);
            let range =
                search::percentile(&histogram, q, PercentileTails::Split, false).expect("q");
            let tail = (1.0 - q) / 2.0;
            assert_eq!(range.low, f64::from(naive::quantile(&rounded, tail)), "{name} {q}");
            assert_eq!(range.high, f64::from(naive::quantile(&rounded, 1.0 - tail)), "{name} {q}");
        }
    }
}

#[test]
fn tails_of_more_than_a_half_still_give_a_range() {
    let exact: Vec<f16> = (0..1000).map(|i| f16::from_f32(i as f32 - 300.0)).collect();
    let rounded: Vec<f32> = exact.iter().map(|x| x.to_f32()).collect();
    let histogram = Histogram::of(&exact);
    for q in [0.0, 0.125, 0.25, 0.5] {
        let range = search::percentile(&histogram, q, PercentileTails::Each, false).expect("q");
        let ends = [q, 1.0 - q].map(|q| f64::from(naive::quantile(&rounded, q)));
        assert_eq!([range.low, range.high], ends, "{q}");
    }
}

#[test]
fn no_values_and_only_zeros_have_a_range() {
    let nan = [f32::NAN; 3];
    for values in [&[][..], &[0.0f32, -0.0][..], &nan[..]] {
        let histogram = Histogram::of(values);
        for (format, scaling) in
            [(QuantFormat::INT8, Scaling::SYMMETRIC), (QuantFormat::UINT8, Scaling::AFFINE)]
        {
            let density = Density::new(&histogram);
            let ranges = [
                search::minmax(&density),
                search::percentile(&histogram, 0.99, PercentileTails::Split, scaling.symmetric)
                    .expect("q"),
                search::kl(&histogram, options(2048), format, scaling).expect("bins"),
                search::mse(&density, 2.0, format, scaling).expect("p"),
            ];
            for range in ranges {
                assert_eq!((range.low.abs(), range.high), (0.0, 0.0));
                let error = search::grid_error(&density, format.grid(range, scaling));
                assert_eq!((error.mse, error.clipped), (0.0, 0.0));
                assert_eq!(error.sqnr_db, f64::INFINITY);
            }
        }
    }
}
