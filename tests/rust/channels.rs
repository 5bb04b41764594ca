//! Statistics by channel, against one histogram for each channel's values taken apart.

use half::{bf16, f16};
use proptest::prelude::*;
use quantcal::{
    ChannelStats, Error, Histogram, TensorStats,
    channels::Shape,
    float::Element,
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

/// Values with everything that a float can be.
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
    // Around the limits of runs, blocks and staged rows; long rows; few and many channels.
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
        // Statistics of nothing are the identity of merging, on either side.
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
            ("b".to_owned(), Entry::Whole(whole)),
        ];
        let bytes = Archive::write("{}", tensors.iter().map(|(n, e)| (n.as_str(), e)));
        prop_assert_eq!(Archive::read(&bytes).map(|a| a.tensors), Ok(tensors));
    }
}
