//! The histogram over float codes: exact counts that merge, without a range chosen beforehand.
//!
//! # The idea
//!
//! The bits of a float are a logarithmic bin number ([`crate::float::Layout`]), so counting is a
//! shift and an increment. With 8 mantissa bits an octave has 256 bins. The value 1000.0 beside a
//! million values in [0, 1] costs one counter and no resolution elsewhere. A uniform histogram of
//! 2048 bins would put that million into three bins.
//!
//! Beside the bins there are exact counters (zeros, NaN, ±inf) and the exact finite minimum and
//! maximum. The state depends on the *multiset* of the values only: any split, order, number of
//! threads or merge tree gives the same bytes.
//!
//! # When the histogram is the data
//!
//! A histogram is *exact* if every value is the inner edge of its bin. That always holds for
//! bfloat16 at 7 bits and float16 at 10. It often holds for float32 too: integers up to 512 at 8
//! bits, constants, values that came from 16 bits. Every answer is then that of the data. Otherwise
//! the values of a bin count as spread evenly over it.
//!
//! # The rooms
//!
//! * `kernel`: counts values into scratch counters
//! * `store`: the counters that a histogram keeps
//! * `record`: from arrays to the store, by way of the kernel
//! * `density`: prefix sums over the bins, and what is computed from them

mod density;
mod kernel;
mod magnitudes;
mod raw_counts;
mod record;
mod store;

pub use density::{Density, MAX_UNIFORM_BINS, Mass, Moments, Segment};
pub use raw_counts::RawCounts;

pub(crate) use density::{check_quantile, edge};
pub(crate) use record::Interleaved;

use self::store::Pages;
use crate::{
    error::{Error, Result},
    float::Layout,
    simd,
};

/// Most values that a histogram holds, non-finite ones included. It is far above what can be
/// observed, and low enough that sums of a few counts do not overflow.
pub const MAX_COUNT: u64 = 1 << 60;

/// Exact counts of one tensor's values over float codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    fixed: bool, // whether the caller chose the resolution; otherwise it follows the element types
    pages: Option<Pages>, // non-zero finite values; `None` until a resolution is known
    exact: bool, // whether every value is the inner edge of its bin
    count: u64,  // all elements, zeros and non-finite ones included
    zeros: u64,  // +0 and −0
    nan: u64,
    posinf: u64,
    neginf: u64,
    min: f32, // of the finite values; +inf without any; never −0
    max: f32, // of the finite values; −inf without any; never −0
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// A histogram whose resolution follows the element types that it records.
    ///
    /// It has 10 mantissa bits for float16, 7 for bfloat16 (both exact), and 8 for float32 and
    /// float64; for mixed types, the minimum. It is the identity of [`merge`](Self::merge).
    pub fn new() -> Self {
        Self {
            fixed: false,
            pages: None,
            exact: true,
            count: 0,
            zeros: 0,
            nan: 0,
            posinf: 0,
            neginf: 0,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
        }
    }

    /// A histogram of 2^`mantissa_bits` bins an octave for any element type.
    ///
    /// # Errors
    /// [`Error::MantissaBits`] outside 3…12.
    pub fn with_mantissa_bits(mantissa_bits: u32) -> Result<Self> {
        let layout = Layout::new(mantissa_bits)?;
        Ok(Self { fixed: true, pages: Some(Pages::new(layout)), ..Self::new() })
    }

    /// Checks that `more` values can be added without exceeding [`MAX_COUNT`].
    ///
    /// # Errors
    /// [`Error::TooMany`] with the number of values that there would be.
    pub fn check_room(&self, more: u64) -> Result<()> {
        check_count(self.count.saturating_add(more))
    }

    /// Adds another histogram. O(bins).
    ///
    /// Of two resolutions the coarser one is kept. The result is exactly what recording at that
    /// resolution would have given.
    ///
    /// # Errors
    /// [`Error::TooMany`] if the sum would exceed [`MAX_COUNT`]; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_room(other.count)?;
        self.add(other);
        Ok(())
    }

    /// Adds another histogram, as [`merge`](Self::merge) does. An empty histogram takes the other's
    /// counters without copying them.
    ///
    /// # Errors
    /// As [`merge`](Self::merge).
    pub fn absorb(&mut self, other: Self) -> Result<()> {
        let resolution = (self.fixed, self.mantissa_bits());
        let same = resolution == (other.fixed, other.mantissa_bits());
        if self.count == 0 && (same || resolution == (false, None)) {
            *self = other;
            return Ok(());
        }
        self.merge(&other)
    }

    /// Adds another histogram without checking the number of values.
    pub(crate) fn add(&mut self, other: &Self) {
        if let Some(theirs) = &other.pages {
            self.coarsen_to(theirs.layout());
            let ours = self.pages.get_or_insert_with(|| Pages::new(theirs.layout()));
            ours.merge(theirs);
            self.exact &= other.exact && ours.holds_edges_of(theirs);
        }
        self.fixed |= other.fixed;
        self.count = self.count.saturating_add(other.count);
        self.zeros = self.zeros.saturating_add(other.zeros);
        self.nan = self.nan.saturating_add(other.nan);
        self.posinf = self.posinf.saturating_add(other.posinf);
        self.neginf = self.neginf.saturating_add(other.neginf);
        (self.min, self.max) =
            simd::with_denormals(|| (self.min.min(other.min), self.max.max(other.max)));
    }

    /// Refuses NaN and infinities.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the number of each.
    pub fn refuse_non_finite(&self) -> Result<()> {
        let Self { nan, posinf, neginf, count, .. } = *self;
        if self.finite() < count {
            return Err(Error::NonFinite { nan, posinf, neginf, count });
        }
        Ok(())
    }

    /// A copy with 2^`mantissa_bits` bins an octave: exactly what recording at that resolution
    /// would have given.
    ///
    /// # Errors
    /// [`Error::MantissaBits`] outside 3…12; [`Error::Refine`] above the present resolution.
    pub fn coarsen(&self, mantissa_bits: u32) -> Result<Self> {
        let layout = Layout::new(mantissa_bits)?;
        if let Some(have) = self.mantissa_bits()
            && have < mantissa_bits
        {
            return Err(Error::Refine { have, want: mantissa_bits });
        }
        let mut coarse = self.clone();
        coarse.fixed = true;
        coarse.coarsen_to(layout);
        coarse.pages.get_or_insert_with(|| Pages::new(layout));
        Ok(coarse)
    }

    /// Coarsens in place if the present layout is finer than `layout`.
    fn coarsen_to(&mut self, layout: Layout) {
        if let Some(fine) = &self.pages
            && fine.layout().mantissa_bits() > layout.mantissa_bits()
        {
            let mut coarse = Pages::new(layout);
            coarse.merge(fine);
            self.exact = self.exact && coarse.holds_edges_of(fine);
            self.pages = Some(coarse);
        }
    }

    /// Mantissa bits of the bins; `None` before the first value unless they are fixed.
    pub fn mantissa_bits(&self) -> Option<u32> {
        self.pages.as_ref().map(|pages| pages.layout().mantissa_bits())
    }

    /// Whether the caller chose the resolution; otherwise it follows the element types.
    pub fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// Whether every value is the inner edge of its bin: then the histogram is the data.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// Number of all elements, zeros and non-finite ones included.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Number of elements that are neither NaN nor infinite.
    pub fn finite(&self) -> u64 {
        let non_finite = self.nan.saturating_add(self.posinf).saturating_add(self.neginf);
        self.count.saturating_sub(non_finite)
    }

    /// Number of zeros, of either sign.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Number of NaN.
    pub fn nan(&self) -> u64 {
        self.nan
    }

    /// Number of elements equal to +∞.
    pub fn posinf(&self) -> u64 {
        self.posinf
    }

    /// Number of elements equal to −∞.
    pub fn neginf(&self) -> u64 {
        self.neginf
    }

    /// The exact finite minimum; `None` without finite values.
    pub fn min(&self) -> Option<f32> {
        (self.finite() > 0).then_some(self.min)
    }

    /// The exact finite maximum; `None` without finite values.
    pub fn max(&self) -> Option<f32> {
        (self.finite() > 0).then_some(self.max)
    }

    /// The exact largest finite magnitude; `None` without finite values.
    pub fn abs_max(&self) -> Option<f32> {
        (self.finite() > 0).then(|| self.min.abs().max(self.max.abs()))
    }

    /// Bytes of memory, counters included.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.pages.as_ref().map_or(0, Pages::memory)
    }

    /// Non-empty bins of non-zero finite values as (code, count), by rising code.
    pub(crate) fn codes(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.pages.iter().flat_map(Pages::non_empty)
    }

    /// The layout; that of `f32` while the resolution is unknown.
    pub(crate) fn layout(&self) -> Layout {
        self.pages.as_ref().map_or(Layout::native::<f32>(), Pages::layout)
    }
}

/// Refuses more values than a histogram holds.
pub(crate) fn check_count(count: u64) -> Result<()> {
    if count > MAX_COUNT { Err(Error::TooMany { count }) } else { Ok(()) }
}
