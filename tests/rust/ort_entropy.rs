//! The bounds of the divergences of onnxruntime, against the divergences themselves.

use quantcal::search;

use crate::{data, naive};

/// Histograms that fall from the middle, more or less sparse, some with counts beyond float32.
fn counts(seed: u64, num_bins: usize) -> Vec<u64> {
    let mut r = data::Random::new(seed);
    let empty = [0.0, 0.1, 0.5, 0.97][seed as usize % 4];
    let peak = [30.0, 1e4, 1e9, 1e14][(seed / 4) as usize % 4];
    let width = num_bins as f64 * (0.05 + 0.5 * r.uniform());
    let mut count = |k: usize| {
        let away = (k as f64 - 0.5 * num_bins as f64) / width;
        let scale = peak * (-away * away).exp();
        if r.uniform() < empty { 0 } else { (r.uniform() * scale) as u64 + r.bits() % 2 }
    };
    (0..num_bins).map(&mut count).collect()
}

#[test]
fn bounds_hold_the_divergence_and_are_narrow() {
    let (mut narrow, mut all) = (0, 0);
    for seed in 0..64 {
        let num_bins = [40, 97, 256, 301][seed as usize / 16];
        let counts = counts(seed, num_bins);
        for levels in [1, 2, 3, 4, 7, 16, 33, 40] {
            let (lower, upper) = search::ort_divergence_bounds(&counts, levels);
            let (middle, half) = (num_bins / 2, levels / 2);
            assert_eq!((lower.len(), upper.len()), (middle - half + 1, middle - half + 1));
            for (i, (lower, upper)) in (half..=middle).zip(lower.into_iter().zip(upper)) {
                let (start, end) = (middle - i, (middle + i + 1).min(num_bins));
                let message =
                    format!("seed {seed}, {levels} levels, {start}..{end}: {lower} {upper}");
                let Some(truth) = naive::smoothed_divergence(&counts, start, end, levels) else {
                    assert_eq!((lower, upper), (f64::NEG_INFINITY, f64::INFINITY), "{message}");
                    continue;
                };
                assert!(lower <= truth && truth <= upper, "{message}, and not {truth}");
                narrow += usize::from(truth.is_infinite() || upper - lower < 1e-4 * (1.0 + truth));
                all += 1;
            }
        }
    }
    // For the others, more than a twentieth of a count is taken from each bin.
    assert!(narrow > all * 4 / 5, "{narrow} of {all}");
}

#[test]
fn an_empty_histogram_has_an_infinite_divergence() {
    let (lower, upper) = search::ort_divergence_bounds(&[0; 64], 8);
    assert!(lower.iter().chain(&upper).all(|&d| d == f64::INFINITY));
    assert_eq!(lower.len(), 29);
}
