//! Grids: scale, zero point, rounding, saturation.

use proptest::prelude::*;
use quantcal::{Error, Grid, QuantFormat, Range, Scaling};

use crate::naive;

const FORMATS: [QuantFormat; 2] = [QuantFormat::INT8, QuantFormat::UINT8];

fn qmin(format: QuantFormat) -> i32 {
    format.int().expect("an integer format").qmin()
}

fn qmax(format: QuantFormat) -> i32 {
    format.int().expect("an integer format").qmax()
}

#[test]
fn scales_are_those_of_the_definition() {
    let grid = QuantFormat::INT8.grid(Range { low: -1.0, high: 2.54 }, Scaling::SYMMETRIC);
    assert_eq!((grid.scale(), grid.zero_point()), ((2.54f64 / 127.0) as f32, 0));
    let grid = QuantFormat::UINT8.grid(Range { low: -1.0, high: 1.55 }, Scaling::AFFINE);
    assert_eq!((grid.scale(), grid.zero_point()), ((2.55f64 / 255.0) as f32, 100));
    let grid = QuantFormat::INT8.grid(Range { low: 0.5, high: 2.55 }, Scaling::AFFINE);
    assert_eq!(grid.zero_point(), -128, "the range is widened to contain zero");
    let grid = QuantFormat::UINT8.grid(Range { low: -2.0, high: 1.0 }, Scaling::SYMMETRIC);
    assert_eq!((grid.scale(), grid.zero_point()), ((2.0f64 / 127.0) as f32, 128));
}

#[test]
fn every_range_gives_a_finite_positive_scale() {
    let ends = [0.0, 1e-45, 1e-40, 1e-30, 1.0, f64::from(f32::MAX)];
    for format in FORMATS {
        for (low, high) in ends.iter().flat_map(|&a| ends.iter().map(move |&b| (-a, b))) {
            for scaling in [Scaling::AFFINE, Scaling::SYMMETRIC] {
                let grid = format.grid(Range { low, high }, scaling);
                assert!(grid.scale() >= f32::MIN_POSITIVE && grid.scale().is_finite());
                assert!((qmin(format)..=qmax(format)).contains(&grid.zero_point()));
            }
        }
        let grid = format.grid(Range::symmetric(0.0), Scaling::SYMMETRIC);
        assert_eq!(grid.scale(), 1.0, "nothing but zeros");
    }
}

#[test]
fn unusable_grids_are_refused() {
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(matches!(Grid::new(QuantFormat::INT8, scale, 0), Err(Error::Scale(_))));
    }
    let error = Error::ZeroPoint { zero_point: 256, qmin: 0, qmax: 255 };
    assert_eq!(Grid::new(QuantFormat::UINT8, 1.0, 256), Err(error));
    assert_eq!(QuantFormat::parse("int17"), Err(Error::Format("int17".into())));
}

proptest! {
    #[test]
    fn quantizing_is_rounding_and_saturating(
        bits in prop::collection::vec(any::<u32>(), 0..300), scale in 1e-3f32..10.0, signed in any::<bool>(), zero_point in 0..=255i32,
    ) {
        let format = if signed { QuantFormat::INT8 } else { QuantFormat::UINT8 };
        let zero_point = qmin(format) + zero_point;
        let grid = Grid::new(format, scale, zero_point).expect("usable");
        // Random patterns, and ties between codes.
        let ties = bits.iter().map(|&b| ((b % 600) as f32 - 300.5) * scale);
        let values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).chain(ties).collect();
        let mut fake = vec![0.0; values.len()];
        grid.fake_quantize(&values, &mut fake);
        let (mut codes, mut back) = (vec![0u8; values.len()], vec![0.0; values.len()]);
        if signed {
            let mut signed = vec![0i8; values.len()];
            grid.quantize(&values, &mut signed);
            grid.dequantize(&signed, &mut back);
        } else {
            grid.quantize(&values, &mut codes);
            grid.dequantize(&codes, &mut back);
        }
        prop_assert_eq!(&fake, &back);
        for (&x, &y) in values.iter().zip(&fake) {
            let lowest = grid.range(Scaling::AFFINE).low as f32;
            if x.is_nan() {
                prop_assert_eq!(y, lowest);
                continue;
            }
            // The definition divides in f32; the oracle does so too and rounds in f64.
            let steps = f64::from((x / scale).clamp(-1e6, 1e6)).round_ties_even() as i32;
            let code = (steps + zero_point).clamp(qmin(format), qmax(format));
            prop_assert_eq!(y, (code - zero_point) as f32 * scale);
        }
    }

    #[test]
    fn zero_is_exact_and_quantizing_twice_changes_nothing(low in -100.0f64..0.0, high in 0.0f64..100.0, symmetric in any::<bool>()) {
        for format in FORMATS {
            let scaling = if symmetric { Scaling::SYMMETRIC } else { Scaling::AFFINE };
            let grid = format.grid(Range { low, high }, scaling);
            prop_assert_eq!(naive::fake_quantize(0.0, grid), 0.0);
            let values: Vec<f32> = (-40..40).map(|i| i as f32 * 2.7).collect();
            let (mut once, mut twice) = (vec![0.0; 80], vec![0.0; 80]);
            grid.fake_quantize(&values, &mut once);
            grid.fake_quantize(&once, &mut twice);
            prop_assert_eq!(once, twice);
        }
    }
}
