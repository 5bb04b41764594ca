//! Block formats, against the definition, one block and one element at a time.

use proptest::prelude::*;
use quantcal::{
    Error, Histogram,
    format::{BlockFormat, FloatFormat},
};

use crate::data;

fn formats() -> Vec<BlockFormat> {
    let mx = FloatFormat::ALL.map(|(_, element)| BlockFormat::mx(element));
    let nv = [1.0, 3.7e-4].map(|scale| BlockFormat::nvfp4(scale).expect("usable"));
    [mx.as_slice(), nv.as_slice()].concat()
}

/// The codes of the elements and the scale of one block, and their values. `global` is the global
/// scale of NVFP4. Powers of two come from `powi` in f64, without the bits of f32.
fn naive(element: FloatFormat, global: Option<f32>, block: &[f32]) -> (Vec<u8>, u8, Vec<f32>) {
    let amax = block.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let nan = block.iter().any(|x| x.is_nan());
    let (code, scale) = if let Some(global) = global {
        let wanted = (amax / 6.0 / global).clamp(2f32.powi(-9), 448.0);
        let code = FloatFormat::E4M3FN.encode(wanted);
        (if nan { 0x7f } else { code }, FloatFormat::E4M3FN.decode(code) * global)
    } else {
        let shared = f64::from(amax).log2().floor() - f64::from(element.max()).log2().floor();
        let shared = shared.clamp(-127.0, 127.0) as i32;
        (if nan { 255 } else { (shared + 127) as u8 }, 2f64.powi(shared) as f32)
    };
    if nan {
        return (vec![0; block.len()], code, vec![f32::NAN; block.len()]);
    }
    let codes: Vec<u8> = block.iter().map(|&x| element.encode(x / scale)).collect();
    let values = codes.iter().map(|&code| element.decode(code) * scale).collect();
    (codes, code, values)
}

fn quantized(format: BlockFormat, row: usize, values: &[f32]) -> (Vec<u8>, Vec<u8>) {
    let mut codes = vec![0xaa; values.len()];
    let mut scales = vec![0xaa; format.blocks(values.len(), row)];
    format.quantize(row, values, &mut codes, &mut scales);
    (codes, scales)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Checks that codes and values of `format` are those of the definition, in one step and in two.
fn check(format: BlockFormat, global: Option<f32>, row: usize, values: &[f32]) {
    let (mut codes, mut scales, mut real) = (vec![], vec![], vec![]);
    for block in values.chunks(row.max(1)).flat_map(|row| row.chunks(format.block_size())) {
        let (c, s, r) = naive(format.element(), global, block);
        codes.extend(c);
        scales.push(s);
        real.extend(r);
    }
    assert_eq!(quantized(format, row, values), (codes.clone(), scales.clone()));
    let mut out = vec![0.0; values.len()];
    format.dequantize(row, &codes, &scales, &mut out);
    assert_eq!(bits(&out), bits(&real));
    format.fake_quantize(row, values, &mut out);
    assert_eq!(bits(&out), bits(&real));
}

fn check_all(row: usize, values: &[f32]) {
    for (format, global) in formats().into_iter().zip([None, None, None, Some(1.0), Some(3.7e-4)]) {
        check(format, global, row, values);
    }
}

#[test]
fn blocks_of_activations_are_those_of_the_definition() {
    for (_, values) in data::shapes(3000) {
        for row in [3000, 32, 48, 100, 1, 17] {
            check_all(row, &values[..values.len() / row * row]);
        }
    }
    check_all(0, &[]);
}

#[test]
fn blocks_of_zeros_nan_and_infinities_are_defined() {
    let format = BlockFormat::mx(FloatFormat::E4M3FN);
    let zeros = [0.0, -0.0];
    assert_eq!(quantized(format, 2, &zeros), (vec![0, 0x80], vec![0]));
    assert_eq!(quantized(format, 2, &[f32::NAN, 1.0]), (vec![0, 0], vec![255]));
    let infinite = [f32::NEG_INFINITY, 1e30, f32::MAX];
    let (codes, scales) = quantized(format, 3, &infinite);
    assert_eq!((codes[0], codes[1], scales[0]), (0xfe, 0, 254));
    let mut back = [0.0; 3];
    format.dequantize(3, &codes, &scales, &mut back);
    assert_eq!(back, [f32::NEG_INFINITY, 0.0, f32::INFINITY]);

    let format = BlockFormat::nvfp4(2.0).expect("usable");
    assert_eq!(quantized(format, 2, &zeros), (vec![0, 8], vec![1]));
    assert_eq!(quantized(format, 2, &[f32::NAN, 1.0]), (vec![0, 0], vec![0x7f]));
    let (codes, scales) = quantized(format, 3, &infinite);
    assert_eq!((codes[0], scales[0]), (0xf, 0x7e));
    format.dequantize(3, &codes, &scales, &mut back);
    assert_eq!(back[0], -6.0 * 448.0 * 2.0);
}

#[test]
fn finite_blocks_stay_finite_up_to_the_ends_of_f32() {
    let ends = [f32::MAX, -f32::MAX, 2f32.powi(127), f32::MIN_POSITIVE, 1e-45, -1e-45, 0.0];
    for element in FloatFormat::ALL.map(|(_, element)| element) {
        for value in ends {
            check(BlockFormat::mx(element), None, 1, &[value]);
            let mut back = [0.0];
            BlockFormat::mx(element).fake_quantize(1, &[value], &mut back);
            assert!(back[0].is_finite());
            assert!(value == 0.0 || value.abs() < 1e-40 || back[0] / value > 0.74, "{value:e}");
        }
    }
}

#[test]
fn unusable_formats_are_refused() {
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45, 2e35] {
        let error = BlockFormat::nvfp4(scale).expect_err("unusable");
        assert!(matches!(error, Error::GlobalScale(_)) && error.to_string().contains("1.26e35"));
    }
    for (name, scale) in [("mxfp6", None), ("nvfp4", None), ("mxfp4", Some(1.0))] {
        assert_eq!(BlockFormat::parse(name, scale), Err(Error::BlockFormat(name.into())));
    }
}

#[test]
fn nothing_depends_on_the_number_of_threads() {
    let mut values: Vec<f32> = data::shapes(100_000).into_iter().flat_map(|(_, x)| x).collect();
    values[77] = f32::NAN;
    values[7777] = f32::INFINITY;
    for format in formats() {
        for row in [values.len(), 400, 50] {
            let of_threads = [1, 2, 7].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.expect("a pool").install(|| {
                    let (codes, scales) = quantized(format, row, &values);
                    let (mut back, mut fake) = (vec![0.0; values.len()], vec![0.0; values.len()]);
                    format.dequantize(row, &codes, &scales, &mut back);
                    format.fake_quantize(row, &values, &mut fake);
                    assert_eq!(bits(&back), bits(&fake));
                    let maxima = format.block_maxima(row, &values);
                    (codes, scales, bits(&fake), format.statistics(row, &values), maxima)
                })
            });
            assert_eq!(of_threads[0], of_threads[1]);
            assert_eq!(of_threads[0], of_threads[2]);
        }
    }
}

#[test]
fn statistics_count_saturated_and_zeroed_elements() {
    for (format, global) in formats().into_iter().zip([None, None, None, Some(1.0), Some(3.7e-4)]) {
        let mut values: Vec<f32> = data::shapes(999).into_iter().flat_map(|(_, x)| x).collect();
        values[5] = f32::NAN;
        values[500] = f32::INFINITY;
        let row = 111;
        let (codes, scales) = quantized(format, row, &values);
        let (mut maxima, mut saturated, mut zeroed) = (vec![], 0, 0);
        let blocks = || values.chunks(row).flat_map(|row| row.chunks(format.block_size()));
        let mut at = 0;
        for block in blocks() {
            let (_, code, _) = naive(format.element(), global, block);
            let nan = block.iter().any(|x| x.is_nan());
            let amax = block.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            maxima.push(if nan { f32::NAN } else { amax });
            let scale = match global {
                Some(global) => FloatFormat::E4M3FN.decode(code) * global,
                None => 2f32.powi(i32::from(code) - 127),
            };
            let limit = match format.element() {
                FloatFormat::E4M3FN => 464.0,
                FloatFormat::E5M2 => 61440.0,
                FloatFormat::E2M1FN => 7.0,
            };
            for &x in block {
                saturated += u64::from(!nan && (x / scale).abs() > limit);
                zeroed += u64::from(!nan && format.element().decode(codes[at]) == 0.0);
                at += 1;
            }
        }
        let statistics = format.statistics(row, &values);
        assert_eq!(statistics.block_maxima, Histogram::of(&maxima));
        assert_eq!(statistics.block_maxima, format.block_maxima(row, &values));
        assert_eq!(statistics.elements, values.len() as u64);
        assert_eq!((statistics.saturated, statistics.rounded_to_zero), (saturated, zeroed));
        let mut counts = [0; 256];
        for code in scales {
            counts[usize::from(code)] += 1;
        }
        assert_eq!(statistics.scales, counts);
    }
}

proptest! {
    #[test]
    fn blocks_of_any_bits_are_those_of_the_definition(
        bits in prop::collection::vec(any::<u32>(), 0..200),
        plain in prop::collection::vec(-3.0f32..3.0, 1..100),
        row in 1usize..70,
    ) {
        let any: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        check_all(row, &any[..any.len() / row * row]);
        check_all(plain.len(), &plain);
    }

    #[test]
    fn scaling_by_a_power_of_two_scales_the_result(
        values in prop::collection::vec(-100.0f32..100.0, 1..100), k in -60i32..60,
    ) {
        for (_, element) in FloatFormat::ALL {
            let format = BlockFormat::mx(element);
            let scaled: Vec<f32> = values.iter().map(|x| x * 2f32.powi(k)).collect();
            let (codes, _) = quantized(format, values.len(), &values);
            prop_assert_eq!(quantized(format, values.len(), &scaled).0, codes);
        }
    }

    #[test]
    fn a_short_block_is_one_filled_up_with_zeros(
        values in prop::collection::vec(any::<f32>(), 1..32), zeros in 0usize..32,
    ) {
        for format in formats() {
            let size = format.block_size().min(values.len());
            let values = &values[..size];
            let filled: Vec<f32> = values.iter().copied().chain(vec![0.0; zeros]).collect();
            let filled = &filled[..filled.len().min(format.block_size())];
            let (codes, scales) = quantized(format, size, values);
            let (filled, filled_scales) = quantized(format, filled.len(), filled);
            prop_assert_eq!((&codes[..], scales), (&filled[..size], filled_scales));
        }
    }
}
