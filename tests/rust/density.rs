//! Prefix sums and uniform views.

use half::f16;
use quantcal::{Density, Error, Histogram, Mass};

use crate::data;

#[test]
fn the_mass_below_any_point_is_that_of_the_data_when_they_are_exact() {
    for (name, values) in data::shapes(3000) {
        let values: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        let density = Density::new(&Histogram::of(&values));
        let x: Vec<f64> = values.iter().map(|x| x.to_f64()).collect();
        let span = density.abs_max() * 1.1;
        let probes = (-50..=50).map(|i| f64::from(i) / 50.0 * span);
        for at in probes.chain(x.iter().copied().take(50)).chain([0.0, -0.0, 1e-50, -1e-50]) {
            let below = x.iter().filter(|&&x| x < at);
            let expected = below.clone().fold(Mass::default(), |m, &x| Mass {
                n: m.n + 1.0,
                s1: m.s1 + x,
                s2: m.s2 + x * x,
            });
            let found = density.below(at);
            assert_eq!(found.n, expected.n, "{name} below {at}");
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * density.total().s2.max(1.0);
            assert!(close(found.s1, expected.s1) && close(found.s2, expected.s2), "{name} {at}");
            assert_eq!(density.count_below(at), below.count() as u64, "{name} below {at}");
            let up_to = x.iter().filter(|&&x| x <= at).count() as u64;
            assert_eq!(density.count_up_to(at), up_to, "{name} up to {at}");
        }
    }
}

#[test]
fn the_mass_below_rises_and_ends_at_the_total() {
    for (name, values) in data::shapes(3000) {
        let density = Density::new(&Histogram::of(&values));
        let span = density.abs_max() * 1.01;
        let mut before = 0.0;
        for i in -5000..=5000 {
            let n = density.below(f64::from(i) / 5000.0 * span).n;
            assert!(n >= before, "{name}");
            before = n;
        }
        assert_eq!(density.below(f64::INFINITY), density.total(), "{name}");
        assert_eq!(density.below(f64::NEG_INFINITY), Mass::default(), "{name}");
        assert_eq!(density.count(), 3000, "{name}");
    }
}

#[test]
fn a_lone_outlier_is_a_point() {
    let mut values = vec![0.5f32, 0.7, 0.6];
    values.push(1000.37);
    let density = Density::new(&Histogram::of(&values));
    let last = density.segments().last().expect("values");
    assert_eq!((last.low, last.high), (f64::from(1000.37f32), f64::from(1000.37f32)));
}

#[test]
fn uniform_views_lose_nothing() {
    for (name, values) in data::shapes(5000) {
        let histogram = Histogram::of(&values);
        let (min, max) =
            (f64::from(histogram.min().unwrap_or(0.0)), f64::from(histogram.max().unwrap_or(0.0)));
        for num_bins in [1, 7, 2048] {
            let counts = histogram.rebin(num_bins, min, max).expect("in order");
            assert_eq!((counts.len(), counts.iter().sum()), (num_bins, 5000u64), "{name}");
        }
        // Two halves sum to the whole, wherever they meet.
        let density = Density::new(&histogram);
        let middle = min + 0.37 * (max - min);
        let left = density.count_below(middle);
        let right: u64 = histogram.rebin(100, middle, max).expect("in order").iter().sum();
        assert_eq!(left + right, 5000, "{name}");
    }
}

#[test]
fn uniform_views_of_exact_data_are_those_of_the_data() {
    for (name, values) in data::shapes(5000) {
        let values: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        let histogram = Histogram::of(&values);
        let (low, high, num_bins) = (-2.0, 3.0, 160); // edges that are exact in f64
        let mut expected = vec![0u64; num_bins];
        for x in values.iter().map(|x| x.to_f64()).filter(|x| (low..=high).contains(x)) {
            expected[(((x - low) * 32.0) as usize).min(num_bins - 1)] += 1;
        }
        assert_eq!(histogram.rebin(num_bins, low, high), Ok(expected), "{name}");
    }
}

#[test]
fn unusable_views_are_refused() {
    let histogram = Histogram::of(&[1.0f32]);
    assert_eq!(histogram.rebin(0, 0.0, 1.0), Err(Error::NumBins(0)));
    assert_eq!(histogram.rebin(1 << 25, 0.0, 1.0), Err(Error::NumBins(1 << 25)));
    assert_eq!(histogram.rebin(4, 1.0, 0.0), Err(Error::Interval { low: 1.0, high: 0.0 }));
    assert!(histogram.rebin(4, f64::NAN, 0.0).is_err());
    assert!(histogram.rebin(4, -f64::MAX, f64::MAX).is_err());
}
