//! Statistics by channel, against one histogram of the separated values of each channel.

use half::{bf16, f16};
use proptest::prelude::*;
use quantcal::{
    ChannelStats, DeferredStats, Error, Histogram, TensorStats,
    float::Element,
    histogram::MAX_COUNT,
    shape::Shape,
    wire::{Archive, Entry},
};

use crate::data::Random;

/// The oracle: the values of one channel, picked one at a time.
fn apart<T: Element>(values: &[T], shape: Shape, channel: usize, bits: u32) -> Histogram {
    let Shape { outer, channels, inner } = shape;
    let mut picked = Vec::new();
    for o in 0..outer {
        for i in 0..inner {
            picked.push(values[(o * channels + channel) * inner + i]);
        }
    }
    let mut histogram = Histogram::with_mantissa_bits(bits).expect("in range");
    histogram.record(&picked);
    histogram
}

fn assert_apart<T: Element>(stats: &ChannelStats, values: &[T], shape: Shape, bits: u32) {
    assert_eq!(stats.len(), shape.channels);
    for (k, histogram) in stats.channels().iter().enumerate() {
        assert_eq!(histogram, &apart(values, shape, k, bits), "channel {k} of {shape:?}");
    }
}

fn observed<T: Element>(values: &[T], shape: Shape) -> ChannelStats {
    let mut stats = ChannelStats::new(1, ChannelStats::MANTISSA_BITS).expect("in range");
    stats.observe(values, shape).expect("first");
    stats
}

/// Values of every kind that a float has.
fn hostile(n: usize) -> Vec<f32> {
    let mut r = Random::new(n as u64);
    let special = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-45];
    (0..n)
        .map(|_| match r.bits() % 8 {
            0 => special[(r.bits() % special.len() as u64) as usize],
            1 => f32::from_bits(r.bits() as u32),
            _ => r.gauss() as f32,
        })
        .collect()
}

fn shapes() -> Vec<Shape> {
    // Around the limits of runs, blocks and staged rows; long rows; few channels and many.
    [
        (1, 1, 1),
        (0, 3, 5),
        (7, 3, 1),
        (8, 128, 1),
        (9, 129, 1),
        (2047, 17, 1),
        (2049, 130, 1),
        (5000, 3, 1),
        (300, 3, 49),
        (3, 40, 700),
        (2, 5, 2047),
        (2, 5, 2048),
        (1, 3, 300_000),
        (150_000, 2, 1),
        (1, 4097, 33),
    ]
    .map(|(outer, channels, inner)| Shape { outer, channels, inner })
    .into()
}

#[test]
fn every_channel_is_the_histogram_of_its_values_at_every_shape_and_number_of_threads() {
    for shape in shapes() {
        let values = hostile(shape.len());
        let mut bytes = Vec::new();
        for threads in [1, 2, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
            let stats = pool.install(|| observed(&values, shape));
            assert_apart(&stats, &values, shape, 5);
            let stats = Entry::Channels(stats);
            bytes.push(Archive::write("{}", [("x", &stats)].into_iter()));
        }
        assert!(bytes.iter().all(|b| *b == bytes[0]), "{shape:?}");
    }
}

#[test]
fn other_element_types_are_counted_as_their_values_at_the_resolution_of_channels() {
    let shape = Shape { outer: 37, channels: 150, inner: 3 };
    let values = hostile(shape.len());
    let halves: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
    let brains: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
    let doubles: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
    assert_apart(&observed(&halves, shape), &halves, shape, 5);
    assert_apart(&observed(&brains, shape), &brains, shape, 5);
    assert_apart(&observed(&doubles, shape), &values, shape, 5);
    let mut fine = ChannelStats::new(-1, 10).expect("in range");
    fine.observe(&halves, shape).expect("first");
    assert_apart(&fine, &halves, shape, 10);
}

#[test]
fn the_total_is_the_histogram_of_the_whole_tensor() {
    let shape = Shape { outer: 300, channels: 40, inner: 2 };
    let values = hostile(shape.len());
    let mut whole = Histogram::with_mantissa_bits(5).expect("in range");
    whole.record(&values);
    assert_eq!(observed(&values, shape).total(), whole);
}

#[test]
fn a_coarser_resolution_is_merged_even_without_values() {
    let shape = Shape { outer: 4, channels: 2, inner: 1 };
    let values = [1.0f32, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7];
    let of = |bits| {
        let mut stats = ChannelStats::new(0, bits).expect("in range");
        stats.observe(&values, shape).expect("first");
        stats
    };
    let coarse = ChannelStats::new(0, 3).expect("in range");
    let mut one = of(6);
    one.merge(&coarse).expect("same axis");
    let mut other = coarse;
    other.merge(&of(6)).expect("same axis");
    assert_eq!(one, other);
    assert_eq!(one, of(3));
}

#[test]
fn another_axis_or_number_of_channels_is_refused_and_changes_nothing() {
    let shape = Shape { outer: 4, channels: 3, inner: 1 };
    let values = hostile(shape.len());
    let mut stats = observed(&values, shape);
    let before = stats.clone();
    let wide = Shape { outer: 3, channels: 4, inner: 1 };
    assert_eq!(stats.observe(&values, wide), Err(Error::Channels { have: 3, want: 4 }));
    assert_eq!(stats.merge(&observed(&values, wide)), Err(Error::Channels { have: 3, want: 4 }));
    let mut last = ChannelStats::new(-1, 5).expect("in range");
    last.observe(&values, shape).expect("first");
    assert_eq!(stats.merge(&last), Err(Error::Axis { have: 1, want: -1 }));
    assert_eq!(stats, before);
}

#[test]
fn the_shape_along_an_axis_is_that_of_row_major_arrays() {
    let shape = |sizes: &[usize], axis| Shape::along(sizes, axis);
    let of = |outer, channels, inner| Ok(Shape { outer, channels, inner });
    assert_eq!(shape(&[2, 3, 4, 5], 1), of(2, 3, 20));
    assert_eq!(shape(&[2, 3, 4, 5], -3), of(2, 3, 20));
    assert_eq!(shape(&[2, 3, 4, 5], 0), of(1, 2, 60));
    assert_eq!(shape(&[2, 3, 4, 5], -1), of(24, 5, 1));
    assert_eq!(shape(&[0, 3], 1), of(0, 3, 1));
    assert_eq!(shape(&[2, 3], 2), Err(Error::AxisRange { axis: 2, shape: vec![2, 3] }));
    assert_eq!(shape(&[2, 3], -3), Err(Error::AxisRange { axis: -3, shape: vec![2, 3] }));
    assert_eq!(shape(&[], 0), Err(Error::AxisRange { axis: 0, shape: vec![] }));
    assert_eq!(
        shape(&[2, 0], i64::MIN),
        Err(Error::AxisRange { axis: i64::MIN, shape: vec![2, 0] })
    );
    assert_eq!(shape(&[2, 0], 1), Err(Error::NoChannels { axis: 1, shape: vec![2, 0] }));
}

#[test]
fn the_first_channel_that_is_not_finite_is_named_and_counted() {
    let shape = Shape { outer: 1000, channels: 300, inner: 1 };
    let mut values = vec![0.5f32; shape.len()];
    assert_eq!(ChannelStats::non_finite(&values, shape), None);
    values[999 * 300 + 17] = f32::NAN;
    values[5 * 300 + 17] = f32::NEG_INFINITY;
    values[18] = f32::INFINITY;
    let found = ChannelStats::non_finite(&values, shape).expect("three");
    assert_eq!((found.channel, found.channels), (17, 2));
    assert_eq!(found.histogram, apart(&values, shape, 17, 5));
}

fn held<T: Element>(values: &[T], shape: Shape, bits: u32) -> DeferredStats {
    let mut held = DeferredStats::from(ChannelStats::new(1, bits).expect("in range"));
    held.defer(values, shape).expect("first");
    held
}

#[test]
fn a_deferred_observation_is_counted_wherever_it_is_merged() {
    for shape in shapes() {
        let values = hostile(shape.len());
        let doubles: Vec<f64> = values.iter().map(|&x| f64::from(x) * 1.000_000_01).collect();
        let (one, other) = (observed(&values, shape), observed(&doubles, shape));
        let mut both = one.clone();
        both.merge(&other).expect("same channels");

        let part = held(&values, shape, 5);
        assert_eq!((part.axis(), part.len()), (1, shape.channels));
        assert_eq!(*part.clone().settled(), one, "read, {shape:?}");
        let mut merged = DeferredStats::from(ChannelStats::new(1, 5).expect("in range"));
        merged.merge(part.clone()).expect("nothing observed yet");
        merged.merge(held(&doubles, shape, 5)).expect("same channels");
        assert_eq!(*merged.settled(), both, "merged, {shape:?}");
        let mut continued = part;
        continued.defer(&doubles, shape).expect("same channels");
        assert_eq!(*continued.settled(), both, "continued, {shape:?}");
    }
}

#[test]
fn a_deferred_observation_keeps_its_resolution_and_its_errors() {
    let shape = Shape { outer: 40, channels: 3, inner: 1 };
    let values = hostile(shape.len());
    for (ours, theirs) in [(4, 7), (7, 4)] {
        let mut merged = held(&values, shape, ours);
        merged.merge(held(&values, shape, theirs)).expect("same channels");
        let mut coarse = held(&values, shape, 4);
        coarse.merge(held(&values, shape, 4)).expect("same channels");
        assert_eq!(*merged.settled(), *coarse.settled(), "{ours} and {theirs} bits");
    }
    let wide = Shape { outer: 30, channels: 4, inner: 1 };
    let mut kept = held(&values, shape, 5);
    let refused = Err(Error::Channels { have: 3, want: 4 });
    assert_eq!(kept.merge(held(&values, wide, 5)), refused);
    assert_eq!(kept.defer(&values, wide), refused);
    let mut last = DeferredStats::from(ChannelStats::new(-1, 5).expect("in range"));
    last.defer(&values, shape).expect("first");
    assert_eq!(kept.merge(last), Err(Error::Axis { have: 1, want: -1 }));
    assert_eq!(*kept.settled(), observed(&values, shape));
}

proptest! {
    #[test]
    fn any_split_and_order_of_the_rows_gives_the_same_bytes(
        channels in 1..5usize, inner in 1..4usize, outer in 0..60usize,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let shape = Shape { outer, channels, inner };
        let values = hostile(shape.len());
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(outer + 1)).collect();
        cuts.sort_unstable();
        cuts.push(outer);
        let mut pieces = Vec::new();
        let mut start = 0;
        for end in cuts {
            let part = &values[start * channels * inner..end * channels * inner];
            pieces.push((part, Shape { outer: end - start, ..shape }));
            start = end;
        }
        let mut one_by_one = ChannelStats::new(0, 5).expect("in range");
        let mut merged = one_by_one.clone();
        for &(part, shape) in pieces.iter().rev() {
            one_by_one.observe(part, shape).expect("same channels");
        }
        for &(part, shape) in &pieces {
            let mut piece = ChannelStats::new(0, 5).expect("in range");
            piece.observe(part, shape).expect("first");
            merged.merge(&piece).expect("same channels");
        }
        prop_assert_eq!(&one_by_one, &merged);
        for (k, histogram) in merged.channels().iter().enumerate() {
            prop_assert_eq!(histogram, &apart(&values, shape, k, 5));
        }
        prop_assert_eq!(merged.observations(), pieces.len() as u64);
        // Empty statistics are the identity of merging, on either side.
        let mut empty = ChannelStats::new(0, 5).expect("in range");
        empty.merge(&merged).expect("nothing observed yet");
        prop_assert_eq!(&empty, &merged);
        merged.merge(&ChannelStats::new(0, 5).expect("in range")).expect("nothing");
        prop_assert_eq!(&empty, &merged);
    }

    #[test]
    fn merging_resolutions_gives_the_coarser(fine in 3..=12u32, coarse in 3..=12u32) {
        let shape = Shape { outer: 50, channels: 3, inner: 1 };
        let values = hostile(shape.len());
        let at = |bits| {
            let mut stats = ChannelStats::new(0, bits).expect("in range");
            stats.observe(&values, shape).expect("first");
            stats
        };
        let mut there = at(fine);
        there.merge(&at(coarse)).expect("same channels");
        let mut back = at(coarse);
        back.merge(&at(fine)).expect("same channels");
        prop_assert_eq!(&there, &back);
        let mut both = at(fine.min(coarse));
        both.observe(&values, shape).expect("same channels");
        prop_assert_eq!(&there, &both);
    }

    #[test]
    fn bytes_come_back_as_they_went_beside_whole_tensors(axis in any::<i64>(), outer in 0..9usize) {
        let shape = Shape { outer, channels: 3, inner: 2 };
        let values = hostile(shape.len());
        let mut stats = ChannelStats::new(axis, 5).expect("in range");
        stats.observe(&values, shape).expect("first");
        let mut whole = TensorStats::default();
        whole.observe(&values);
        let tensors = vec![
            ("a".to_owned(), Entry::Channels(stats)),
            ("b".to_owned(), Entry::Tensor(whole)),
        ];
        let bytes = Archive::write("{}", tensors.iter().map(|(n, e)| (n.as_str(), e)));
        prop_assert_eq!(Archive::read(&bytes).map(|a| a.tensors), Ok(tensors));
    }
}

mod grids {
    //! Grids by channel, against the grid of each channel on its separated values.

    use quantcal::{
        ChannelGrids, ChannelStats, Density, Error, Grid, Histogram, QuantFormat, Scaling, search,
        shape::Shape,
    };

    use crate::data::Random;

    fn values(n: usize) -> Vec<f32> {
        let mut r = Random::new(9);
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
        (0..n).map(|i| if i % 97 == 5 { special[i % 4] } else { 3.0 * r.gauss() as f32 }).collect()
    }

    /// Different scales and zero points, including the ends of the format.
    fn grids_of(format: QuantFormat, channels: usize) -> ChannelGrids {
        let scales: Vec<f32> = (0..channels).map(|k| 0.01 * (1 + k) as f32).collect();
        let (qmin, qmax) = format.int().map_or((0, 0), |int| (int.qmin(), int.qmax()));
        let zero_points: Vec<i32> =
            (0..channels as i32).map(|k| qmin + k % (qmax - qmin + 1)).collect();
        ChannelGrids::new(format, &scales, &zero_points).expect("usable")
    }

    #[test]
    fn every_element_is_treated_by_the_grid_of_its_channel() {
        for name in ["int8", "uint8", "int4", "float8_e4m3fn"] {
            let format = QuantFormat::parse(name).expect("known");
            for (outer, channels, inner) in
                [(1, 1, 1), (5, 7, 1), (3000, 50, 1), (2, 3, 70_000), (1, 70_000, 2), (0, 3, 4)]
            {
                let shape = Shape { outer, channels, inner };
                let x = values(shape.len());
                let grids = grids_of(format, channels);
                let (mut codes, mut back) = (vec![0i8; x.len()], vec![0.0; x.len()]);
                let mut fake = back.clone();
                grids.quantize(&x, shape, &mut codes).expect("fits");
                grids.dequantize(&codes, shape, &mut back).expect("fits");
                grids.fake_quantize(&x, shape, &mut fake).expect("fits");
                for (i, &x) in x.iter().enumerate() {
                    let grid: Grid = grids.grids()[i / inner % channels];
                    let (mut code, mut real, mut direct) = ([0i8], [0.0], [0.0]);
                    grid.quantize(&[x], &mut code);
                    grid.dequantize(&code, &mut real);
                    grid.fake_quantize(&[x], &mut direct);
                    assert_eq!(codes[i], code[0], "{name} {shape:?} {i}");
                    assert_eq!(back[i].to_bits(), real[0].to_bits(), "{name} {shape:?} {i}");
                    assert_eq!(fake[i].to_bits(), direct[0].to_bits(), "{name} {shape:?} {i}");
                }
            }
        }
    }

    #[test]
    fn parameters_that_do_not_match_are_refused() {
        let int8 = QuantFormat::parse("int8").expect("known");
        let zero = Error::InChannel { channel: 1, error: Box::new(Error::Scale(0.0)) };
        assert_eq!(ChannelGrids::new(int8, &[1.0, 0.0], &[0, 0]), Err(zero));
        let beyond = Error::ZeroPoint { zero_point: 128, qmin: -128, qmax: 127 };
        let beyond = Error::InChannel { channel: 0, error: Box::new(beyond) };
        assert_eq!(ChannelGrids::new(int8, &[1.0], &[128]), Err(beyond));
        let lengths = Error::Lengths { scales: 2, zero_points: 1 };
        assert_eq!(ChannelGrids::new(int8, &[1.0, 1.0], &[0]), Err(lengths));
        let shape = Shape { outer: 1, channels: 3, inner: 1 };
        let refused = grids_of(int8, 2).quantize(&[0.0; 3], shape, &mut [0i8; 3]);
        assert_eq!(refused, Err(Error::Grids { have: 2, want: 3 }));
    }

    #[test]
    fn the_error_of_channels_is_that_of_all_their_values() {
        let format = QuantFormat::parse("uint8").expect("known");
        for channels in [1, 5, 40] {
            let shape = Shape { outer: 700, channels, inner: 2 };
            let x: Vec<f32> =
                values(shape.len()).iter().map(|x| if x.is_finite() { *x } else { 0.0 }).collect();
            // At 12 bits the density is nearly the data.
            let mut stats = ChannelStats::new(1, 12).expect("in range");
            stats.observe(&x, shape).expect("first");
            let ranges = stats.channels().iter().map(|h| search::minmax(&Density::new(h)));
            let grids: Vec<Grid> = ranges
                .map(|mut range| {
                    range.high *= 0.4; // so that many values are clipped
                    format.grid(range, Scaling::AFFINE)
                })
                .collect();
            let error = search::grid_errors(stats.channels(), &grids);
            let (mut squared, mut energy, mut zeros, mut dot, mut norm) = (0., 0., 0., 0., 0.);
            for (i, &x) in x.iter().enumerate() {
                let mut y = [0.0];
                grids[i / 2 % channels].fake_quantize(&[x], &mut y);
                let (x, y) = (f64::from(x), f64::from(y[0]));
                squared += (x - y).powi(2);
                energy += x * x;
                dot += x * y;
                norm += y * y;
                zeros += f64::from(u8::from(y == 0.0));
            }
            let n = x.len() as f64;
            // The tolerance allows for spreading values over bins of 1/4096 and for rounding at
            // their edges.
            let near = |a: f64, b: f64, tolerance: f64| {
                assert!((a - b).abs() <= tolerance * b.abs(), "{a} {b} ({channels} channels)");
            };
            near(error.mse, squared / n, 0.01);
            near(error.sqnr_db, 10.0 * (energy / squared).log10(), 0.01);
            near(error.rounded_to_zero, zeros / n, 0.05);
            near(error.cosine, dot / (energy * norm).sqrt(), 1e-3);
            if channels == 1 {
                let alone = search::grid_error(&Density::new(&stats.channels()[0]), grids[0]);
                assert_eq!(error, alone);
            }
        }
        let nothing = search::grid_errors(
            &[Histogram::new()],
            &[format.grid(quantcal::Range { low: 0.0, high: 1.0 }, Scaling::AFFINE)],
        );
        assert_eq!((nothing.mse, nothing.clipped, nothing.cosine), (0.0, 0.0, 1.0));
        assert_eq!(nothing.sqnr_db, f64::INFINITY);
    }
}

#[test]
fn more_values_than_can_be_counted_are_refused_by_channel_too() {
    let shape = Shape { outer: 1, channels: 3, inner: 2 };
    let mut stats = observed(&[1.0, 2.0, 0.0, -1.0, 5.0, 5.0], shape);
    let mut refused = 0;
    for _ in 0..64 {
        let before = stats.clone();
        if let Err(error) = stats.merge(&before) {
            assert_eq!(error, Error::TooMany { count: 2 * before.count() });
            assert_eq!(stats, before);
            refused += 1;
        }
        assert_eq!(stats.total().count(), stats.count());
    }
    assert!(refused > 0 && stats.count() > MAX_COUNT / 2);
    let (axis, n) = (stats.axis(), stats.observations());
    let back = ChannelStats::from_counts(axis, stats.channels().to_vec(), n);
    assert_eq!(back.as_ref(), Ok(&stats));
    let twice = [stats.channels(), stats.channels()].concat();
    assert!(matches!(ChannelStats::from_counts(axis, twice, n), Err(Error::TooMany { .. })));
}
