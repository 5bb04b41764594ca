//! The histogram over float codes: exact counts, mergeable, with no range to be known beforehand.
//!
//! # The idea
//!
//! A float's own bits are a logarithmic bucket number ([`crate::float::Layout`]), so counting is a shift and an
//! increment. With `m = 8` mantissa bits there are 256 bins an octave: the value 1000.0 beside a
//! million values in [0, 1] costs one counter and no resolution anywhere else, where a uniform
//! histogram of 2048 bins would keep two useful bins.
//!
//! Beside the bins stand exact counters (zeros, NaN, ±inf) and the exact finite minimum and
//! maximum. The state is a function of the *multiset* of the values alone: any split, order,
//! thread count or merge tree gives the same bytes.
//!
//! # When the histogram is the data
//!
//! A histogram is *exact* when every value seen is the inner edge of its bin, which is always so for
//! bfloat16 at 7 bits and float16 at 10, and happens for float32 too (integers up to 512 at
//! m = 8, constants, values that came from 16 bits). Then every answer is that of the data.
//! Otherwise a bin's values are taken as spread evenly over it.

mod abreast;
mod count;
mod counts;
mod cut;
mod density;
mod directory;
mod empty;
mod extremes;
mod few;
mod high;
mod index;
mod kinds;
mod moments;
mod pages;
mod pieces;
mod quantile;
mod rebin;
mod record;
mod segment;
mod steps;
mod tables;

pub use counts::Counts;
pub use density::Density;
pub use moments::Moments;
pub use rebin::MAX_UNIFORM_BINS;
pub use segment::{Mass, Segment};

pub(crate) use abreast::Abreast;
pub(crate) use pages::Pages;
pub(crate) use quantile::check_quantile;
pub(crate) use rebin::edge;

use crate::{
    error::{Error, Result},
    float::{Element, Layout},
    simd,
};

/// Most values that a histogram holds, of all kinds together: far above what can be observed, and low enough
/// that sums of a few do not overflow.
pub const MAX_COUNT: u64 = 1 << 60;

/// Exact counts of one tensor's values over float codes.
#[derive(Debug, Clone)]
pub struct Histogram {
    fixed: bool, // whether the resolution was asked for, or follows the element types
    pages: Option<Pages>, // None until a resolution is known; holds non-zero finite values only
    exact: bool, // every value is the inner edge of its bin
    count: u64,  // all elements, also zeros and non-finite ones
    zeros: u64,  // +0 and -0
    nan: u64,
    posinf: u64,
    neginf: u64,
    min: f32, // of the finite values; +inf while there are none; never -0
    max: f32, // of the finite values; -inf while there are none; never -0
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// A histogram whose resolution follows the element types that it sees: 10 mantissa bits for
    /// float16, 7 for bfloat16 (both exact), 8 for float32 and float64; the least of them when
    /// several are mixed. It is the identity of [`merge`](Self::merge).
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

    /// A histogram of 2^`mantissa_bits` bins an octave, whatever it sees.
    ///
    /// # Errors
    /// [`Error::MantissaBits`] outside 3…12.
    pub fn with_mantissa_bits(mantissa_bits: u32) -> Result<Self> {
        let layout = Layout::new(mantissa_bits)?;
        Ok(Self { fixed: true, pages: Some(Pages::new(layout)), ..Self::new() })
    }

    /// The histogram of `values`, at the resolution that suits their type.
    pub fn of<T: Element>(values: &[T]) -> Self {
        let mut histogram = Self::new();
        histogram.record(values);
        histogram
    }

    /// Refuses `more` values beside those that are counted, if there would be more than [`MAX_COUNT`].
    ///
    /// # Errors
    /// [`Error::TooMany`] says how many there would be.
    pub fn check_room(&self, more: u64) -> Result<()> {
        check_count(self.count.saturating_add(more))
    }

    /// Adds another histogram. Of two resolutions the coarser one is kept, which is exact: the
    /// result is what would have been recorded at that resolution. O(bins).
    ///
    /// # Errors
    /// [`Error::TooMany`] if the sum would be above [`MAX_COUNT`]; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_room(other.count)?;
        self.add(other);
        Ok(())
    }

    /// Adds another histogram, as [`merge`](Self::merge) does, and takes its counters over if there
    /// are none here.
    ///
    /// # Errors
    /// As [`merge`](Self::merge).
    pub fn absorb(&mut self, other: Self) -> Result<()> {
        let kind = (self.fixed, self.mantissa_bits());
        if self.count == 0
            && (kind == (other.fixed, other.mantissa_bits()) || kind == (false, None))
        {
            *self = other;
            return Ok(());
        }
        self.merge(&other)
    }

    /// Adds another histogram, for which there is room.
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
            simd::with_subnormals(|| (self.min.min(other.min), self.max.max(other.max)));
    }

    /// Refuses NaN and infinities, where they must not be.
    ///
    /// # Errors
    /// [`Error::NonFinite`] says how many there are.
    pub fn refuse_non_finite(&self) -> Result<()> {
        let Self { nan, posinf, neginf, count, .. } = *self;
        if self.finite() < count {
            return Err(Error::NonFinite { nan, posinf, neginf, count });
        }
        Ok(())
    }

    /// A copy with 2^`mantissa_bits` bins an octave: what recording at that resolution would have
    /// given, exactly.
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

    /// Coarsens in place when the present layout is finer than `layout`.
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

    /// Mantissa bits of the bins; `None` while nothing has been seen that sets them.
    pub fn mantissa_bits(&self) -> Option<u32> {
        self.pages.as_ref().map(|pages| pages.layout().mantissa_bits())
    }

    /// Whether the resolution was asked for, rather than following the element types.
    pub fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// Whether every value seen is its bin's inner edge: then the histogram is the data.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// All elements seen, zeros and non-finite ones included.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Elements that are neither NaN nor infinite.
    pub fn finite(&self) -> u64 {
        let non_finite = self.nan.saturating_add(self.posinf).saturating_add(self.neginf);
        self.count.saturating_sub(non_finite)
    }

    /// Elements equal to zero, of either sign.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Elements that are not a number.
    pub fn nan(&self) -> u64 {
        self.nan
    }

    /// Elements equal to +∞.
    pub fn posinf(&self) -> u64 {
        self.posinf
    }

    /// Elements equal to −∞.
    pub fn neginf(&self) -> u64 {
        self.neginf
    }

    /// Smallest finite value, exactly; `None` without one.
    pub fn min(&self) -> Option<f32> {
        (self.finite() > 0).then_some(self.min)
    }

    /// Largest finite value, exactly; `None` without one.
    pub fn max(&self) -> Option<f32> {
        (self.finite() > 0).then_some(self.max)
    }

    /// Largest finite magnitude, exactly; `None` without one.
    pub fn abs_max(&self) -> Option<f32> {
        (self.finite() > 0).then(|| self.min.abs().max(self.max.abs()))
    }

    /// Bytes that the counters occupy.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.pages.as_ref().map_or(0, Pages::memory)
    }

    /// Non-empty bins of non-zero finite values by rising code, with their counts.
    pub(crate) fn codes(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.pages.iter().flat_map(Pages::non_empty)
    }

    /// The layout; that of `f32` while nothing has been seen.
    pub(crate) fn layout(&self) -> Layout {
        self.pages.as_ref().map_or(Layout::of(f32::MANTISSA_BITS), Pages::layout)
    }

    /// Rebuilds a histogram from its parts, which were checked.
    fn from_parts(parts: Parts) -> Self {
        let Parts { fixed, pages, exact, count, zeros, nan, posinf, neginf, min, max } = parts;
        Self { fixed, pages, exact, count, zeros, nan, posinf, neginf, min, max }
    }
}

/// Refuses more values than a histogram holds.
pub(crate) fn check_count(count: u64) -> Result<()> {
    if count > MAX_COUNT { Err(Error::TooMany { count }) } else { Ok(()) }
}

/// The state of a histogram, as [`Histogram::from_parts`] takes it.
struct Parts {
    fixed: bool,
    pages: Option<Pages>,
    exact: bool,
    count: u64,
    zeros: u64,
    nan: u64,
    posinf: u64,
    neginf: u64,
    min: f32,
    max: f32,
}

impl PartialEq for Histogram {
    /// Equal state: same resolution, counts, extremes.
    fn eq(&self, other: &Self) -> bool {
        (self.fixed, self.exact, self.count, self.zeros, self.nan, self.posinf, self.neginf)
            == (
                other.fixed,
                other.exact,
                other.count,
                other.zeros,
                other.nan,
                other.posinf,
                other.neginf,
            )
            && (self.min, self.max) == (other.min, other.max)
            && self.pages == other.pages
    }
}
