//! The effect of channel scales, against the divided and multiplied values themselves.

use quantcal::{
    Density, Error, Grid, Histogram, QuantFormat, Range, Scaling,
    search::{
        grid_error,
        smoothquant::{Scales, activation_errors, activation_histograms, weight_errors},
    },
};

use crate::data::Random;

const CHANNELS: usize = 7;
const ROWS: usize = 900;

/// Channels of different magnitude with all kinds of floats; the last but one is all zeros.
fn channels() -> Vec<Vec<f32>> {
    let mut r = Random::new(5);
    let special = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    (0..CHANNELS)
        .map(|c| {
            let size = libm::exp2(3.0 * c as f64 - 6.0) as f32;
            let mut value = || match r.bits() % 40 {
                k @ 0..5 => special[k as usize],
                _ => size * r.gauss() as f32,
            };
            let values: Vec<f32> = (0..ROWS).map(|_| value()).collect();
            if c == CHANNELS - 2 { vec![0.0; ROWS] } else { values }
        })
        .collect()
}

fn recorded(values: impl Iterator<Item = f32>) -> Histogram {
    let mut histogram = Histogram::with_mantissa_bits(5).expect("in range");
    histogram.record(&values.collect::<Vec<_>>());
    histogram
}

fn histograms(channels: &[Vec<f32>]) -> Vec<Histogram> {
    channels.iter().map(|values| recorded(values.iter().copied())).collect()
}

/// Two candidates: powers of two, and other numbers.
fn scales() -> Vec<f32> {
    let mut r = Random::new(6);
    let powers = (0..CHANNELS as i32).map(|c| libm::ldexp(1.0, 3 - c) as f32);
    let any = (0..CHANNELS).map(|_| libm::exp2(4.0 * r.uniform() - 2.0) as f32);
    powers.chain(any.collect::<Vec<_>>()).collect()
}

#[test]
fn channels_divided_by_powers_of_two_are_the_histogram_of_the_divided_values() {
    let (channels, scales) = (channels(), scales());
    let found = activation_histograms(
        &histograms(&channels),
        Scales::new(&scales, CHANNELS).expect("usable"),
    );
    let values = channels.iter().zip(&scales).flat_map(|(c, s)| c.iter().map(move |x| x / s));
    assert_eq!(found.expect("a scale each")[0], recorded(values));
}

#[test]
fn the_ends_of_a_divided_channel_are_counted_where_they_are() {
    // Each channel has one bin, whose middle is divided into another bin than its ends.
    let channels = [vec![1.001f32, 1.03], vec![-2.05, -2.01], vec![0.7]];
    let scales = [1.0, 1.0, 1.0, 1.008, 1.02, 3.0, 1.02, 1.008, 0.1];
    let found =
        activation_histograms(&histograms(&channels), Scales::new(&scales, 3).expect("usable"));
    for (found, scales) in found.expect("a scale each").iter().zip(scales.chunks(3)) {
        let values = channels.iter().zip(scales).flat_map(|(c, s)| c.iter().map(move |x| x / s));
        assert_eq!(*found, recorded(values));
    }
}

#[test]
fn channels_divided_by_any_scales_keep_counts_and_extremes_and_are_a_bin_off_at_most() {
    let (channels, scales) = (channels(), scales());
    let found = activation_histograms(
        &histograms(&channels),
        Scales::new(&scales, CHANNELS).expect("usable"),
    );
    let found = &found.expect("a scale each")[1];
    let set = &scales[CHANNELS..];
    let mut values: Vec<f32> =
        channels.iter().zip(set).flat_map(|(c, s)| c.iter().map(move |x| x / s)).collect();
    let wanted = recorded(values.iter().copied());
    let counts = |h: &Histogram| (h.count(), h.zeros(), h.nan(), h.posinf(), h.neginf());
    assert_eq!(counts(found), counts(&wanted));
    assert_eq!((found.min(), found.max()), (wanted.min(), wanted.max()));
    values.retain(|x| x.is_finite());
    values.sort_unstable_by(f32::total_cmp);
    for q in [0.001, 0.01, 0.1, 0.3, 0.7, 0.9, 0.99, 0.999] {
        let exact = f64::from(values[(q * (values.len() - 1) as f64) as usize]);
        let there = found.quantile(q).expect("in range").expect("values");
        assert!((there - exact).abs() <= exact.abs() / 12.0, "{q}: {there} for {exact}");
    }
}

#[test]
fn errors_of_divided_channels_are_those_of_the_channels_on_a_grid_of_larger_steps() {
    let (histograms, scales) = (histograms(&channels()), scales());
    for name in ["uint8", "int4", "int16", "float8_e4m3fn"] {
        let format = QuantFormat::parse(name).expect("known");
        let zero_point = format.int().map_or(0, |int| int.qmin() + 3);
        let grids = [0.02, 0.5].map(|scale| Grid::new(format, scale, zero_point).expect("usable"));
        let sets = Scales::new(&scales, CHANNELS).expect("usable");
        let found = activation_errors(&histograms, sets, &grids).expect("one each");
        for (k, set) in scales.chunks(CHANNELS).enumerate() {
            for (c, histogram) in histograms.iter().enumerate() {
                let step = (f64::from(grids[k].scale()) * f64::from(set[c])) as f32;
                let grid = Grid::new(format, step, zero_point).expect("usable");
                let density = Density::new(histogram);
                let wanted = grid_error(&density, grid).mse;
                assert_eq!(found.errors[k * CHANNELS + c], wanted, "{name}, {k}, channel {c}");
                let moments = histogram.moments();
                let square = moments.mean * moments.mean + moments.std * moments.std;
                assert!((found.squares[c] - square).abs() <= 1e-9 * square);
            }
        }
    }
}

#[test]
fn errors_of_multiplied_columns_are_those_of_the_quantized_rows_for_any_threads() {
    let (rows, scales) = (53, scales());
    let mut r = Random::new(8);
    let matrix: Vec<f32> = (0..rows * CHANNELS).map(|_| r.gauss() as f32).collect();
    for (name, scaling) in [("int8", Scaling::SYMMETRIC), ("uint4", Scaling::AFFINE)] {
        let format = QuantFormat::parse(name).expect("known");
        let mut wanted = vec![0.0; scales.len()];
        for (set, wanted) in scales.chunks(CHANNELS).zip(wanted.chunks_mut(CHANNELS)) {
            for row in matrix.chunks(CHANNELS) {
                let changed: Vec<f32> = row.iter().zip(set).map(|(w, s)| w * s).collect();
                let high = f64::from(changed.iter().fold(0.0f32, |high, x| high.max(x.abs())));
                let grid = format.grid(Range { low: -high, high }, scaling);
                let mut real = vec![0.0; CHANNELS];
                grid.fake_quantize(&changed, &mut real);
                for c in 0..CHANNELS {
                    wanted[c] += f64::from(real[c] - changed[c]) * f64::from(real[c] - changed[c]);
                }
            }
        }
        let sets = Scales::new(&scales, CHANNELS).expect("usable");
        let mut answers = Vec::new();
        for threads in [1, 2, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
            let found = pool.install(|| weight_errors(&matrix, sets, format, scaling));
            answers.push(found.expect("columns fit"));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{name}");
        for (found, wanted) in answers[0].iter().zip(&wanted) {
            assert!((found - wanted).abs() <= 1e-12 * wanted, "{name}: {found} for {wanted}");
        }
    }
}

#[test]
fn invalid_or_missing_scales_are_refused() {
    assert_eq!(Scales::new(&[1.0, 0.0], 2).err(), Some(Error::Scale(0.0)));
    assert_eq!(Scales::new(&[1.0, -1.0], 2).err(), Some(Error::Scale(-1.0)));
    assert!(Scales::new(&[1.0, f32::INFINITY], 2).is_err());
    assert!(Scales::new(&[1.0; 3], 2).is_err());
    assert!(Scales::new(&[1.0; 3], 0).is_err());
    let two = Scales::new(&[1.0, 1.0], 2).expect("usable");
    let histograms = histograms(&channels());
    let refused = Error::Grids { have: 2, want: CHANNELS };
    assert_eq!(activation_histograms(&histograms, two).err(), Some(refused.clone()));
    assert_eq!(activation_errors(&histograms, two, &[]).err(), Some(refused));
}

#[test]
fn channels_without_values_divide_to_nothing() {
    let empty = vec![recorded(std::iter::empty()); 2];
    let scales = Scales::new(&[1.0, 2.0], 2).expect("usable");
    let found = activation_histograms(&empty, scales).expect("a scale each");
    assert_eq!((found[0].count(), found[0].min()), (0, None));
}
