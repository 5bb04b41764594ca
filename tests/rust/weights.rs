//! Weights in blocks, against trying every share of every block on every value.

use proptest::prelude::*;
use quantcal::{
    Error, QuantFormat, Range, Scaling, format::FloatFormat, search::BlockSearch, shape::Shape,
};

use crate::{data::Random, naive};

const SHARES: [f32; 5] = [1.0, 0.9, 0.8, 0.7, 0.6];

/// Where the values of block `k` of row (o, i) lie.
fn block(shape: Shape, size: usize, o: usize, k: usize, i: usize) -> Vec<usize> {
    let along = k * size..shape.channels.min((k + 1) * size);
    along.map(|c| (o * shape.channels + c) * shape.inner + i).collect()
}

fn normal(shape: Shape, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..shape.len()).map(|_| random.gauss() as f32).collect()
}

type Coded = (Vec<u8>, Vec<f32>, Vec<u8>);

fn coded(search: BlockSearch<'_>, values: &[f32]) -> Coded {
    let blocks = search.blocks();
    let mut found = (vec![0xaa; values.len()], vec![-1.0; blocks], vec![0xaa; blocks]);
    search.quantize(values, &mut found.0, &mut found.1, &mut found.2);
    found
}

proptest! {
    /// The grid of each block is that of one of the shares, and no other share has a smaller error.
    #[test]
    fn no_share_of_a_block_has_less_error_than_the_chosen_one(
        outer in 1usize..4, channels in 1usize..70, inner in 1usize..20, size in 1usize..40,
        seed in 0u64..1000, symmetric: bool,
    ) {
        let shape = Shape { outer, channels, inner };
        let values = normal(shape, seed);
        let format = QuantFormat::UINT4;
        let scaling = if symmetric { Scaling::SYMMETRIC } else { Scaling::AFFINE };
        let search = BlockSearch::new(shape, size, format, scaling, &SHARES).unwrap();
        let (codes, scales, zero_points) = coded(search, &values);
        for o in 0..outer {
            for k in 0..search.blocks_along() {
                for i in 0..inner {
                    let at = block(shape, size, o, k, i);
                    let values: Vec<f32> = at.iter().map(|&n| values[n]).collect();
                    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
                    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let grids = SHARES.map(|share| {
                        let range = Range { low: f64::from(low * share), high: f64::from(high * share) };
                        format.grid(range, scaling)
                    });
                    let b = (o * search.blocks_along() + k) * inner + i;
                    let chosen = grids.iter().find(|grid| {
                        (grid.scale(), grid.zero_point()) == (scales[b], i32::from(zero_points[b]))
                    });
                    let chosen = *chosen.expect("one of the shares");
                    // The oracle rounds in f64, the search in f32.
                    let error = naive::mse(&values, chosen) * (1.0 - 1e-4);
                    for grid in grids {
                        prop_assert!(error <= naive::mse(&values, grid) + 1e-12);
                    }
                    let mut want = vec![0u8; values.len()];
                    chosen.quantize(&values, &mut want);
                    let got: Vec<u8> = at.iter().map(|&n| codes[n]).collect();
                    prop_assert_eq!(got, want);
                }
            }
        }
    }
}

#[test]
fn of_equal_errors_the_first_share_wins() {
    let shape = Shape { outer: 1, channels: 2, inner: 1 };
    let (int2, scaling) = (QuantFormat::parse("int2").unwrap(), Scaling::SYMMETRIC);
    // Steps of 4 lose the 2, steps of 2 clip the 4: the squared error is 4 in both cases.
    for (shares, scale) in [([1.0, 0.5], 4.0), ([0.5, 1.0], 2.0)] {
        let search = BlockSearch::new(shape, 2, int2, scaling, &shares).unwrap();
        let (_, scales, _) = coded(search, &[4.0, 2.0]);
        assert_eq!(scales, [scale], "{shares:?}");
    }
}

#[test]
fn threads_do_not_change_a_code_of_a_block() {
    let shape = Shape { outer: 3, channels: 300, inner: 401 };
    let values = normal(shape, 3);
    let search = BlockSearch::new(shape, 32, QuantFormat::UINT4, Scaling::AFFINE, &SHARES).unwrap();
    let all = [1, 2, 7].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
        pool.install(|| coded(search, &values))
    });
    assert!(all.iter().all(|found| *found == all[0]));
}

#[test]
fn empty_weights_are_accepted_and_floating_formats_refused() {
    let shape = Shape { outer: 0, channels: 5, inner: 2 };
    let scaling = Scaling::SYMMETRIC;
    let search = BlockSearch::new(shape, 4, QuantFormat::INT4, scaling, &SHARES).unwrap();
    assert_eq!(coded(search, &[]), (vec![], vec![], vec![]));
    let float = QuantFormat::Float(FloatFormat::E4M3FN);
    let refused = BlockSearch::new(shape, 4, float, scaling, &SHARES).unwrap_err();
    assert_eq!(refused, Error::NotInteger("float8_e4m3fn".to_owned()));
    let refused = BlockSearch::new(shape, 0, QuantFormat::INT4, scaling, &SHARES).unwrap_err();
    assert_eq!(refused, Error::BlockSize(0));
}
