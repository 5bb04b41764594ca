//! Every method finds the bits in `tests/golden/ranges.json`, as Python does.

use quantcal::{
    Density, Histogram, QuantFormat, Range, Scaling,
    search::{self, KlOptions, PercentileTails},
};
use serde_json::Value;

/// Values whose arithmetic is exact, as in `make_ranges.py`.
fn values(name: &str) -> Vec<f32> {
    let mut state = 1u64;
    let mut bell: Vec<f32> = (0..30_000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let sum: u64 = [0, 16, 32, 48].iter().map(|shift| (state >> shift) & 0xffff).sum();
            (sum as i64 - 2 * 0xffff) as f32 / 32_768.0
        })
        .collect();
    match name {
        "one-sided" => bell.iter_mut().for_each(|x| *x = x.max(0.0)),
        "outliers" => bell.iter_mut().step_by(1000).for_each(|x| *x *= 64.0),
        _ => {}
    }
    bell
}

/// A number in the form of Python's `float.hex`.
fn number(text: &str) -> f64 {
    let (sign, digits) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let (mantissa, exponent) = digits
        .strip_prefix("0x")
        .and_then(|rest| rest.split_once('p'))
        .expect("a hexadecimal float");
    let (whole, fraction) = mantissa.split_once('.').expect("a point");
    let bits = u64::from_str_radix(fraction, 16).expect("digits");
    if whole == "0" {
        assert_eq!(bits, 0, "a normal number");
        return sign * 0.0;
    }
    assert_eq!(fraction.len(), 13, "all digits");
    let exponent: i64 = exponent.parse().expect("an exponent");
    sign * f64::from_bits(((exponent + 1023) as u64) << 52 | bits)
}

fn found(histogram: &Histogram, strategy: &str, format: QuantFormat) -> Option<Range> {
    let scaling = if format == QuantFormat::UINT8 { Scaling::AFFINE } else { Scaling::SYMMETRIC };
    let density = &Density::new(histogram);
    let percentile =
        |q| search::percentile(histogram, q, PercentileTails::Split, format.is_symmetric(scaling));
    let range = match strategy {
        "minmax" => search::minmax(density),
        "percentile_99" => percentile(0.99).expect("a share"),
        "percentile_99.99" => percentile(0.9999).expect("a share"),
        "kl" => search::kl(histogram, KlOptions::default(), format, scaling).expect("bins"),
        "mse" => search::mse(density, 2.0, format, scaling).expect("p"),
        "mse(p=2.4)" => search::mse(density, 2.4, format, scaling).expect("p"),
        "mse(newton)" => search::octav(histogram, format, scaling).expect("integers"),
        "entropy" => search::max_entropy(density, format, scaling),
        "aciq" => search::aciq(density, search::best_fit(histogram)?, format, scaling),
        _ => return None,
    };
    Some(range)
}

#[test]
fn ranges_have_the_bits_that_were_recorded() {
    let golden: Value = serde_json::from_str(include_str!("../golden/ranges.json")).expect("JSON");
    let histograms = ["bell", "one-sided", "outliers"].map(|n| (n, Histogram::of(&values(n))));
    let mut seen = 0;
    for (key, ends) in golden.as_object().expect("an object") {
        let [name, format, strategy] = key.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{key} has three parts")
        };
        let (_, histogram) = histograms.iter().find(|(n, _)| *n == name).expect("known values");
        let format = QuantFormat::parse(format).expect("known");
        let Some(range) = found(histogram, strategy, format) else { continue };
        let [low, high] = [0, 1].map(|i| number(ends[i].as_str().expect("text")));
        assert_eq!((range.low, range.high), (low, high), "{key}");
        seen += 1;
    }
    assert_eq!(seen, 3 * 4 * 9);
}
