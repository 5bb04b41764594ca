//! `quantcal::Round`: a QuantizeLinear/DequantizeLinear pair in one node, whose grid is an input.
//!
//! * Input 0, `x`: float32 of any shape.
//! * Input 1, `grids`: float32 of shape `[T, 4]`. Each row is a grid: scale, zero point, lowest and
//!   highest code. A scale of 0 switches the node off.
//! * Attribute `position`: the row of this node.
//! * Output: float32 of the shape of `x`; `x` itself when the node is off.
//!
//! `quantcal::RoundInPlace` is the same, but its output is an alias of `x`. It writes over `x`, and
//! does nothing at all when it is off. This is sound only where nobody else reads `x` and where `x`
//! belongs to the run: not an initializer, and not an input of the graph.

use std::{
    ffi::CStr,
    sync::{Mutex, PoisonError},
};

use super::{
    rounding::Rounding,
    runtime::{Call, Floats, Node, OrtResult, Tensor, Threads, shares},
    table::{ElementType, Operator},
};

const POSITION: &CStr = c"position";

/// Fewest elements for each thread: some 8 µs of work, as the division takes 0.25 ns an element.
const SHARE: usize = 1 << 15;

/// The operator of one node.
pub(super) struct Round<const IN_PLACE: bool> {
    tensor: String,
    position: usize,
}

impl<const IN_PLACE: bool> Operator for Round<IN_PLACE> {
    const NAME: &'static CStr = if IN_PLACE { c"RoundInPlace" } else { c"Round" };
    const INPUTS: &'static [ElementType] = &[ElementType::Float, ElementType::Float];
    const OUTPUT: ElementType = ElementType::Float;
    const ALIAS: bool = IN_PLACE;

    fn new(node: &Node<'_>) -> OrtResult<Self> {
        let (tensor, position) = (node.output_name()?, node.integer(POSITION)?);
        let position = usize::try_from(position).map_err(|_| {
            format!("tensor \"{tensor}\": the position is {position}; rows are numbered from 0")
        })?;
        Ok(Self { tensor, position })
    }

    fn tensor(&self) -> &str {
        &self.tensor
    }

    fn compute(&self, call: &mut Call<'_>) -> OrtResult<()> {
        let threads = call.threads();
        let rounding = self.rounding(&call.input(1)?)?;
        match (call.floats()?, rounding) {
            (Floats::Same(_), None) => Ok(()),
            (Floats::Apart { from, to }, None) => {
                to.copy_from_slice(from);
                Ok(())
            }
            (Floats::Same(values), Some(rounding)) => {
                let parts = values.chunks_mut(part(values.len()));
                share_out(threads, parts, |values| rounding.apply_in_place(values))
            }
            (Floats::Apart { from, to }, Some(rounding)) => {
                let part = part(from.len());
                let parts = from.chunks(part).zip(to.chunks_mut(part));
                share_out(threads, parts, |(from, to)| rounding.apply(from, to))
            }
        }
    }
}

impl<const IN_PLACE: bool> Round<IN_PLACE> {
    /// The rounding of this node's row; `None` when it is off.
    fn rounding(&self, grids: &Tensor<'_>) -> OrtResult<Option<Rounding>> {
        let (rows, []) = grids.f32s()?.as_chunks() else { return Err(wrong_shape(grids.sizes())) };
        if grids.sizes().len() != 2 || grids.sizes()[1] != 4 {
            return Err(wrong_shape(grids.sizes()));
        }
        let position = self.position;
        let row = rows.get(position).ok_or_else(|| {
            format!("its position is {position}, but grids has {} rows", rows.len())
        })?;
        Rounding::of(*row).map_err(|error| format!("row {position} of grids is {row:?}: {error}"))
    }
}

fn wrong_shape(sizes: &[i64]) -> String {
    format!(
        "grids has the shape {sizes:?}; it needs a row for each node, and four columns: scale, \
         zero point, lowest code, highest code"
    )
}

/// Elements of each part, for work on several threads.
fn part(elements: usize) -> usize {
    elements.div_ceil(shares(elements, SHARE).max(1)).max(1)
}

/// Does the work on each part, on the threads of the runtime if there are several.
fn share_out<P: Send>(
    threads: Threads<'_>,
    parts: impl Iterator<Item = P>,
    work: impl Fn(P) + Sync,
) -> OrtResult<()> {
    let parts: Vec<Mutex<Option<P>>> = parts.map(|part| Mutex::new(Some(part))).collect();
    let take = |index: usize| parts[index].lock().unwrap_or_else(PoisonError::into_inner).take();
    let one = |index: usize| {
        if let Some(part) = take(index) {
            work(part);
        }
    };
    if parts.len() < 2 {
        (0..parts.len()).for_each(one);
        return Ok(());
    }
    threads.share_out(parts.len(), &one)
}
