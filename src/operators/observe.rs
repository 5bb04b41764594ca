//! `quantcal::Observe`: records a tensor and passes it on.

use std::{ffi::CStr, sync::Arc};

use super::{
    runtime::{Call, Elements, Node, OrtResult, Threads, shares},
    table::{ElementType, Operator},
    tap::{Tap, Taps},
};
use crate::float::Element;

/// The attributes of a node: the number of [`Taps`], and the position among them.
const NUMBER: &CStr = c"taps";
const POSITION: &CStr = c"position";

/// Fewest elements for each thread. Below, another thread costs more than it gains. 2^13 and 2^14
/// are equally fast; 2^17 leaves most tensors of a text recognizer to one thread.
const SHARE: usize = 1 << 14;

/// The operator of one node.
pub(super) struct Observe {
    tap: Arc<Tap>,
}

impl Operator for Observe {
    const NAME: &'static CStr = c"Observe";
    const INPUTS: &'static [ElementType] = &[ElementType::Any];
    const OUTPUT: ElementType = ElementType::Any;
    const ALIAS: bool = true;

    fn new(node: &Node<'_>) -> OrtResult<Self> {
        let tap = Taps::find(node.integer(NUMBER)?, node.integer(POSITION)?);
        Ok(Self { tap: tap.map_err(|error| error.to_string())? })
    }

    fn tensor(&self) -> &str {
        self.tap.name()
    }

    fn compute(&self, call: &mut Call<'_>) -> OrtResult<()> {
        let threads = call.threads();
        let input = call.input(0)?;
        let elements = input.elements()?;
        match &elements {
            Elements::F16(values) => self.record(threads, values),
            Elements::BF16(values) => self.record(threads, values),
            Elements::F32(values) => self.record(threads, values),
            Elements::F64(values) => self.record(threads, values),
        }?;
        let output = call.output(input.sizes())?;
        input.pass_on(&elements, output);
        Ok(())
    }
}

impl Observe {
    /// Counts on the threads of the runtime. They spin between operators, so the threads of our
    /// pool would wait for them.
    fn record<T: Element>(&self, threads: Threads<'_>, values: &[T]) -> OrtResult<()> {
        let shares = shares(values.len(), SHARE);
        if shares < 2 {
            return self.tap.observe(values).map_err(|error| error.to_string());
        }
        self.tap.observe_shared(values, shares, |shares, work| threads.share_out(shares, work))
    }
}
