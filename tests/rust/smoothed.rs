//! The bounds of onnxruntime's divergences, against the divergence itself.

use quantcal::search;

use crate::{data, naive};

/// Histograms that fall from the middle, more or less sparse, some with counts that float32 cannot hold.
fn counts(seed: u64, num_bins: usize) -> Vec<u64> {
    let mut r = data::Random::new(seed);
    let empty = [0.0, 0.1, 0.5, 0.97][seed as usize % 4];
    let most = [30.0, 1e4, 1e9, 1e14][(seed / 4) as usize % 4];
    let width = num_bins as f64 * (0.05 + 0.5 * r.uniform());
    let mut count = |k: usize| {
        let away = (k as f64 - 0.5 * num_bins as f64) / width;
        let scale = most * (-away * away).exp();
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
            let (least, most) = search::smoothed_divergences(&counts, levels);
            let (middle, half) = (num_bins / 2, levels / 2);
            assert_eq!((least.len(), most.len()), (middle - half + 1, middle - half + 1));
            for (i, (least, most)) in (half..=middle).zip(least.into_iter().zip(most)) {
                let (start, end) = (middle - i, (middle + i + 1).min(num_bins));
                let told = format!("seed {seed}, {levels} levels, {start}..{end}: {least} {most}");
                let Some(truth) = naive::smoothed_divergence(&counts, start, end, levels) else {
                    assert_eq!((least, most), (f64::NEG_INFINITY, f64::INFINITY), "{told}");
                    continue;
                };
                assert!(least <= truth && truth <= most, "{told}, and not {truth}");
                narrow += usize::from(truth.is_infinite() || most - least < 1e-4 * (1.0 + truth));
                all += 1;
            }
        }
    }
    // The others are those of which more than a twentieth of a count is taken from each bin.
    assert!(narrow > all * 4 / 5, "{narrow} of {all}");
}

#[test]
fn nothing_has_an_infinite_divergence() {
    let (least, most) = search::smoothed_divergences(&[0; 64], 8);
    assert!(least.iter().chain(&most).all(|&d| d == f64::INFINITY));
    assert_eq!(least.len(), 29);
}
