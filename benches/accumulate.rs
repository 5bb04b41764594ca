//! Recording, beside the floor: a vectorized max|x|, which is what reading the data once costs.
//!
//! Everything is measured on one core and on two, the floor too, since both cores read from the
//! same memory. The answers are checked before they are timed.

#[path = "../tests/rust/data.rs"]
mod data;

use std::{hint::black_box, time::Duration};

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use half::{bf16, f16};
use quantcal::{ChannelStats, Histogram, Recorder, float::Element, shape::Shape};
use rayon::prelude::*;

/// 256 MiB of `f32`, far more than any cache holds.
const MANY: usize = 1 << 26;
/// Enough for the other shapes and types: 64 MiB.
const SOME: usize = 1 << 24;
const CHANNELS: usize = 4096;
const ROWS: usize = 8192;

/// The largest magnitude.
fn abs_max(values: &[f32]) -> f32 {
    let mut max = [0.0f32; 32];
    for chunk in values.as_chunks::<32>().0 {
        for (m, x) in max.iter_mut().zip(chunk) {
            *m = if x.abs() > *m { x.abs() } else { *m };
        }
    }
    max.into_iter().fold(0.0, f32::max)
}

/// The same with all threads.
fn abs_max_in_parts(values: &[f32]) -> f32 {
    values.par_chunks(1 << 20).map(abs_max).reduce(|| 0.0, f32::max)
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn group<'a>(c: &'a mut Criterion, name: &str, elements: usize) -> Group<'a> {
    let mut group = c.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300));
    group
        .measurement_time(Duration::from_secs(1))
        .throughput(Throughput::Elements(elements as u64));
    group
}

/// Times `work` on one thread and on two.
fn on_one_and_two(group: &mut Group, name: &str, mut work: impl FnMut() + Send) {
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        group.bench_function(BenchmarkId::new(name, threads), |b| {
            pool.install(|| b.iter(&mut work));
        });
    }
}

fn record<T: Element>(group: &mut Group, name: &str, values: &[T]) {
    assert_eq!(Histogram::of(values).count(), values.len() as u64);
    on_one_and_two(group, name, || drop(black_box(Histogram::of(black_box(values)))));
}

fn floor(group: &mut Group, values: &[f32]) {
    assert_eq!(abs_max(values), abs_max_in_parts(values));
    on_one_and_two(group, "floor, max|x|", || {
        black_box(if rayon::current_num_threads() == 1 {
            abs_max(black_box(values))
        } else {
            abs_max_in_parts(black_box(values))
        });
    });
}

fn many(c: &mut Criterion) {
    let values = gauss(MANY);
    let mut group = group(c, "64M", MANY);
    floor(&mut group, &values);
    record(&mut group, "f32, gauss", &values);
}

fn gauss(n: usize) -> Vec<f32> {
    let r = &mut data::Random::new(7);
    (0..n).map(|_| r.gauss() as f32).collect()
}

/// Magnitudes spread evenly over 16 octaves, of either sign.
fn octaves(n: usize) -> Vec<f32> {
    let r = &mut data::Random::new(8);
    (0..n)
        .map(|_| (libm::exp2(r.uniform() * 16.0 - 8.0) * (r.uniform() - 0.5).signum()) as f32)
        .collect()
}

fn shapes(c: &mut Criterion) {
    let mut group = group(c, "16M", SOME);
    let shapes = data::shapes(SOME);
    let gauss = &shapes[0].1;
    floor(&mut group, gauss);
    for (name, values) in &shapes {
        record(&mut group, &format!("f32, {name}"), values);
    }
    let mut sorted = gauss.clone();
    sorted.sort_unstable_by(f32::total_cmp);
    record(&mut group, "f32, sorted", &sorted);
    let octaves = octaves(SOME);
    record(&mut group, "f32, 16 octaves", &octaves);
    record(&mut group, "f64, gauss", &gauss.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    for (name, values) in [("gauss", gauss), ("relu", &shapes[3].1), ("16 octaves", &octaves)] {
        let half: Vec<_> = values.iter().map(|&x| f16::from_f32(x)).collect();
        record(&mut group, &format!("f16, {name}"), &half);
        let brain: Vec<_> = values.iter().map(|&x| bf16::from_f32(x)).collect();
        record(&mut group, &format!("bf16, {name}"), &brain);
    }
}

/// Arrays of a size from which a second thread may pay.
fn sizes(c: &mut Criterion) {
    let gauss = gauss(1 << 22);
    for size in [1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 22] {
        let mut group = group(c, "sizes", size);
        record(&mut group, &format!("f32, {size}"), &gauss[..size]);
    }
}

/// Many tensors in turn, so that the counters of each have left the cache meanwhile.
fn tensors(c: &mut Criterion) {
    let gauss = gauss(SOME);
    for (tensors, size) in [(1000, 1 << 10), (700, 1 << 14), (60, 1 << 18)] {
        let mut group = group(c, "tensors in turn", tensors * size);
        let arrays: Vec<&[f32]> = gauss.chunks(size).take(tensors).collect();
        let mut recorders: Vec<Recorder> = (0..tensors).map(|_| Recorder::default()).collect();
        group.bench_function(format!("{tensors} × {size}"), |b| {
            b.iter(|| {
                for (recorder, values) in recorders.iter_mut().zip(&arrays) {
                    recorder.observe(black_box(values));
                }
            });
        });
        group.bench_function(format!("{tensors} × {size}, one histogram"), |b| {
            let mut histogram = Histogram::new();
            b.iter(|| {
                for values in &arrays {
                    histogram.record(black_box(values));
                }
            });
        });
    }
}

fn channels(c: &mut Criterion) {
    let values = gauss(CHANNELS * ROWS);
    let mut group = group(c, "by channel", values.len());
    for (name, outer, inner) in [
        ("first", 1, ROWS),
        ("last", ROWS, 1),
        ("in the middle, 49 inside", ROWS / 49, 49),
        ("in the middle, 784 inside", ROWS / 784, 784),
    ] {
        let shape = Shape { outer, channels: CHANNELS, inner };
        let values = &values[..shape.len()];
        on_one_and_two(&mut group, name, || {
            let mut stats = ChannelStats::new(0, ChannelStats::MANTISSA_BITS).expect("bits");
            stats.observe(black_box(values), shape).expect("the first observation");
            black_box(stats);
        });
    }
}

criterion_group!(benches, many, shapes, sizes, tensors, channels);
criterion_main!(benches);
