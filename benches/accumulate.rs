//! Recording: element type × distribution × threads, beside the bandwidth floor.

#[path = "../tests/rust/data.rs"]
mod data;

use std::hint::black_box;

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use half::{bf16, f16};
use quantcal::{Histogram, float::Element};

const ELEMENTS: usize = 1 << 24;

/// A vectorised max|x|: what reading the data once costs.
fn abs_max(values: &[f32]) -> f32 {
    let mut max = [0.0f32; 32];
    for chunk in values.as_chunks::<32>().0 {
        for (m, x) in max.iter_mut().zip(chunk) {
            *m = if x.abs() > *m { x.abs() } else { *m };
        }
    }
    max.into_iter().fold(0.0, f32::max)
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}

fn record<T: Element>(group: &mut BenchmarkGroup<WallTime>, name: &str, values: &[T]) {
    assert_eq!(Histogram::of(values).count(), values.len() as u64);
    for threads in [1, 2] {
        let pool = pool(threads);
        group.bench_function(format!("{name}/{threads}"), |b| {
            pool.install(|| b.iter(|| Histogram::of(black_box(values))));
        });
    }
}

fn accumulate(c: &mut Criterion) {
    let shapes = data::shapes(ELEMENTS);
    let gauss = &shapes[0].1;
    let mut group = c.benchmark_group("accumulate");
    group.sample_size(10).throughput(Throughput::Elements(ELEMENTS as u64));
    group.bench_function("floor: max|x|, f32", |b| b.iter(|| abs_max(black_box(gauss))));
    for (name, values) in &shapes {
        record(&mut group, &format!("f32, {name}"), values);
    }
    record(&mut group, "f64, gauss", &gauss.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    record(&mut group, "f16, gauss", &gauss.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>());
    record(
        &mut group,
        "bf16, gauss",
        &gauss.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>(),
    );
    group.finish();

    let mut group = c.benchmark_group("many tensors");
    group.sample_size(10);
    for size in [1 << 10, 1 << 14, 1 << 18] {
        let tensors: Vec<&[f32]> = gauss.chunks(size).take(700).collect();
        let mut histograms = vec![Histogram::new(); tensors.len()];
        group.throughput(Throughput::Elements((size * tensors.len()) as u64));
        group.bench_function(format!("{} × {size}", tensors.len()), |b| {
            b.iter(|| {
                for (histogram, values) in histograms.iter_mut().zip(&tensors) {
                    histogram.record(black_box(values));
                }
            });
        });
    }
}

criterion_group!(benches, accumulate);
criterion_main!(benches);
