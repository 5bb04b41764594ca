//! Floats of 8 and 4 bits, against the conversions of other libraries and a search of all levels.

use proptest::prelude::*;
use quantcal::format::FloatFormat;
use serde_json::Value;

const FORMATS: [FloatFormat; 3] = [FloatFormat::E4M3FN, FloatFormat::E5M2, FloatFormat::E2M1FN];

fn numbers(golden: &Value, format: FloatFormat, key: &str) -> Vec<u32> {
    let list = golden[format.name()][key].as_array().expect("a list");
    list.iter().map(|n| n.as_u64().expect("a number") as u32).collect()
}

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/float8.json")).expect("JSON")
}

/// The code of the nearest level, found among all levels; of two equally near ones the even one.
/// Distances of ties are exact in f64; others need not be.
fn nearest(format: FloatFormat, x: f32) -> u8 {
    let sign = if x.is_sign_negative() { 1 << (format.bits() - 1) } else { 0 };
    let top = (format.levels().len() / 2) as u8; // the largest code of a magnitude
    let magnitude = f64::from(x.abs().min(2.0 * format.max())); // f64 would round beyond
    let distance = |code: u8| (f64::from(format.decode(code)) - magnitude).abs();
    let nearer = |a: u8, b: u8| if distance(b) < distance(a) { b } else { a };
    let best = (0..=top).reduce(nearer).expect("levels");
    let tie = best < top && distance(best + 1) == distance(best);
    sign | if tie { best + best % 2 } else { best }
}

#[test]
fn every_code_has_the_value_of_ml_dtypes() {
    let golden = golden();
    for format in FORMATS {
        let values = numbers(&golden, format, "decode");
        assert_eq!(values.len(), 1 << format.bits());
        for (code, bits) in (0..=u8::MAX).zip(values) {
            assert_eq!(format.decode(code).to_bits(), bits, "{} {code:#x}", format.name());
        }
    }
    assert_eq!(FloatFormat::E2M1FN.decode(0x35).to_bits(), FloatFormat::E2M1FN.decode(5).to_bits());
}

#[test]
fn levels_ties_overflow_and_nan_have_the_codes_of_ml_dtypes() {
    let golden = golden();
    for format in FORMATS {
        let codes = numbers(&golden, format, "ml_dtypes");
        for (bits, code) in numbers(&golden, format, "inputs").into_iter().zip(codes) {
            let x = f32::from_bits(bits);
            assert_eq!(u32::from(format.encode(x)), code, "{} {x:e}", format.name());
        }
    }
}

#[test]
fn codes_are_those_of_quantize_linear() {
    let golden = golden();
    for format in FORMATS {
        let codes = numbers(&golden, format, "onnx");
        for (bits, code) in numbers(&golden, format, "inputs").into_iter().zip(codes) {
            let x = f32::from_bits(bits);
            // onnx.reference adds a zero point of +0 first, which turns -0 into +0.
            let expected = if format == FloatFormat::E2M1FN && bits == 1 << 31 { 8 } else { code };
            let nan = |code: u32| x.is_nan() && format.decode(code as u8).is_nan();
            let got = u32::from(format.encode(x));
            assert!(got == expected || (nan(got) && nan(code)), "{} {x:e}", format.name());
        }
    }
}

#[test]
fn levels_are_all_finite_values_once() {
    for (format, len, max, smallest) in [
        (FloatFormat::E4M3FN, 253, 448.0, 2f32.powi(-9)),
        (FloatFormat::E5M2, 247, 57344.0, 2f32.powi(-16)),
        (FloatFormat::E2M1FN, 15, 6.0, 0.5),
    ] {
        let levels = format.levels();
        assert_eq!(levels.len(), len);
        assert!(levels.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((levels[0], levels[len - 1]), (-max, max));
        assert_eq!((levels[len / 2].to_bits(), levels[len / 2 + 1]), (0, smallest));
        assert_eq!((format.max(), format.smallest()), (max, smallest));
        assert_eq!(format.max_exponent(), max.log2().floor() as i32);
        let codes = (0..=u8::MAX).take(1 << format.bits());
        let finite = codes.filter(|&code| format.decode(code).is_finite());
        assert!(finite.clone().all(|code| levels.contains(&format.decode(code))));
        assert_eq!(finite.count(), len + 1, "with a second zero");
        assert!(FloatFormat::ALL.contains(&(format.name(), format)));
    }
}

#[test]
fn every_finite_code_survives_a_round_trip() {
    for format in FORMATS {
        for code in (0..=u8::MAX).take(1 << format.bits()) {
            let value = format.decode(code);
            if value.is_finite() {
                assert_eq!(format.encode(value), code);
                assert_eq!(format.round(value).to_bits(), value.to_bits());
            }
        }
    }
}

/// Every exponent, with mantissas around all places where two levels meet.
#[test]
fn the_nearest_level_is_chosen_over_the_whole_range_of_f32() {
    for format in FORMATS {
        for top in 0..1u32 << 14 {
            for low in [0, 1, (1 << 18) - 1] {
                let x = f32::from_bits(top << 18 | low);
                if !x.is_nan() {
                    assert_eq!(format.encode(x), nearest(format, x), "{} {x:e}", format.name());
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn rounding_is_encoding_and_decoding(bits in any::<u32>(), near_one in 0.0f32..8.0) {
        for format in FORMATS {
            for x in [f32::from_bits(bits), near_one, -near_one] {
                let decoded = format.decode(format.encode(x));
                prop_assert_eq!(format.round(x).to_bits(), decoded.to_bits());
            }
        }
    }
}
