//! The searches, on the histogram of a tensor of a million values.

#[path = "../tests/rust/data.rs"]
mod data;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use quantcal::{
    Density, Histogram, QuantFormat, Scaling, TensorStats, search,
    search::{BlockSearch, PercentileTails},
    shape::Shape,
    wire::{Archive, Entry},
};

fn options(num_bins: usize) -> search::KlOptions {
    search::KlOptions { num_bins, ..search::KlOptions::default() }
}

fn searches(c: &mut Criterion) {
    let (_, values) = data::shapes(1 << 20).swap_remove(0); // gauss
    let histogram = Histogram::of(&values);
    let density = Density::new(&histogram);
    let (int8, uint8) = (QuantFormat::INT8, QuantFormat::UINT8);
    // Checked before it is timed: clipping a little is better than clipping nothing.
    let error = |range| search::grid_error(&density, uint8.grid(range, Scaling::AFFINE)).mse;
    assert!(
        error(search::mse(&density, 2.0, uint8, Scaling::AFFINE).expect("p"))
            < error(search::minmax(&density))
    );

    let mut group = c.benchmark_group("search");
    group.sample_size(20);
    group.bench_function("density", |b| b.iter(|| Density::new(black_box(&histogram))));
    group.bench_function("percentile, symmetric", |b| {
        b.iter(|| search::percentile(black_box(&histogram), 0.9999, PercentileTails::Split, true));
    });
    group.bench_function("kl, int8, 2048 bins", |b| {
        b.iter(|| search::kl(black_box(&histogram), options(2048), int8, Scaling::SYMMETRIC));
    });
    group.bench_function("kl, uint8 two-sided, 2048 bins", |b| {
        b.iter(|| search::kl(black_box(&histogram), options(2048), uint8, Scaling::AFFINE));
    });
    group.bench_function("mse, int8", |b| {
        b.iter(|| search::mse(black_box(&density), 2.0, int8, Scaling::SYMMETRIC));
    });
    group.bench_function("mse, uint8", |b| {
        b.iter(|| search::mse(black_box(&density), 2.0, uint8, Scaling::AFFINE));
    });
    for name in ["int4", "int8", "uint8", "int16", "float8_e4m3fn"] {
        let format = QuantFormat::parse(name).expect("known");
        let scaling = if name == "uint8" { Scaling::AFFINE } else { Scaling::SYMMETRIC };
        group.bench_function(format!("mse, p = 2.4, {name}"), |b| {
            b.iter(|| search::mse(black_box(&density), 2.4, format, scaling));
        });
        group.bench_function(format!("max entropy, {name}"), |b| {
            b.iter(|| search::max_entropy(black_box(&density), format, scaling));
        });
    }
    // So few segments that the search visits each.
    let few = Density::new(&Histogram::of(&values[..1 << 11]));
    assert!(few.segments().len() <= 1536);
    group.bench_function("mse, p = 2.4, uint8, 2048 values", |b| {
        b.iter(|| search::mse(black_box(&few), 2.4, uint8, Scaling::AFFINE));
    });
    let end = density.abs_max();
    let counts = density.rebin(2048, -end, end).expect("in order");
    group.bench_function("bounds of onnxruntime's divergences, 2048 bins", |b| {
        b.iter(|| search::ort_divergence_bounds(black_box(&counts), 128));
    });
    group.bench_function("octav, uint8", |b| {
        b.iter(|| search::octav(black_box(&histogram), uint8, Scaling::AFFINE));
    });
    group.bench_function("best fit and aciq, uint8", |b| {
        b.iter(|| {
            let fit = search::best_fit(black_box(&histogram)).expect("values");
            search::aciq(&density, fit, uint8, Scaling::AFFINE)
        });
    });
    group.bench_function("grid error", |b| {
        let grid = uint8.grid(search::minmax(&density), Scaling::AFFINE);
        b.iter(|| search::grid_error(black_box(&density), grid));
    });
    group.finish();

    let mut group = c.benchmark_group("grid");
    group.sample_size(20);
    let grid = int8.grid(search::minmax(&density), Scaling::SYMMETRIC);
    let mut codes = vec![0i8; values.len()];
    let mut back = vec![0f32; values.len()];
    group.bench_function("floor: copy of the values", |b| {
        b.iter(|| back.copy_from_slice(black_box(&values)));
    });
    let shape = Shape { outer: 1, channels: 1 << 10, inner: values.len() >> 10 };
    let (uint4, shares) = (QuantFormat::UINT4, [1.0, 0.9, 0.8, 0.7, 0.6]);
    let blocks = BlockSearch::new(shape, 32, uint4, Scaling::AFFINE, &shares).expect("integers");
    let mut coded = vec![0u8; values.len()];
    let mut scales = vec![0f32; blocks.blocks()];
    let mut zero_points = vec![0u8; blocks.blocks()];
    group.bench_function("blocks of 32 weights, uint4, five shares", |b| {
        b.iter(|| blocks.quantize(black_box(&values), &mut coded, &mut scales, &mut zero_points));
    });
    group.bench_function("quantize + dequantize, int8", |b| {
        b.iter(|| {
            grid.quantize(black_box(&values), &mut codes);
            grid.dequantize(&codes, &mut back);
        });
    });
    group.finish();

    let mut stats = TensorStats::default();
    stats.observe(&values);
    let stats = Entry::Tensor(stats);
    let tensors: Vec<(String, Entry)> =
        (0..100).map(|i| (format!("tensor {i}"), stats.clone())).collect();
    let write = || Archive::write("{}", tensors.iter().map(|(n, s)| (n.as_str(), s)));
    let bytes = write();
    assert_eq!(Archive::read(&bytes).expect("just written").tensors, tensors);
    let mut group = c.benchmark_group("files of 100 tensors");
    group.sample_size(10);
    group.bench_function("write", |b| b.iter(write));
    group.bench_function("read", |b| b.iter(|| Archive::read(black_box(&bytes))));
}

criterion_group!(benches, searches);
criterion_main!(benches);
