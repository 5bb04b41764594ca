//! The KL divergence of one candidate: equal bins, some of which are kept and merged to groups.
//!
//! Let h be the bins, T = ΣP, I = ΣQ, `S_g` the sum of a group and `z_g` its number of non-empty
//! bins:
//!
//! ```text
//! KL = (Σ P ln P − Σ_g S_g ln(S_g / z_g) − outside · ln(S_last / z_last)) / T + ln(I / T)
//! ```
//!
//! Σ P ln P, `S_g` and `z_g` are differences of prefix sums of h ln h, h and [h > 0]. So a
//! candidate costs O(levels), where the textbook loop visits every bin. The term of a group depends
//! on its first bin and its width only, and neighboring candidates share these. So a search
//! computes the terms of each width once.

use std::cell::OnceCell;

use crate::{
    FloatFormat,
    search::math::{ln, x_ln_x},
    simd::{Work, dispatch},
};

/// Most terms of groups that a search keeps: 8 MiB.
const MAX_TERMS: usize = 1 << 20;
/// The rounding of a bound for each bin: four times 2^-53 times ln 2^64.
const ROUNDING: f64 = 2e-14;

/// How the kept bins are merged.
#[derive(Debug, Clone)]
pub(crate) enum Groups {
    /// to this many groups of equal width
    Even(usize),
    /// to groups that end at these rising shares of the kept width, the last one 1
    Ends(Vec<f64>),
}

impl Groups {
    /// The cells of a floating format, over both signs or over the magnitudes.
    pub(crate) fn of(float: FloatFormat, both_signs: bool) -> Self {
        let levels = float.levels();
        let levels = if both_signs { levels } else { &levels[levels.len() / 2..] };
        let (first, last) = (f64::from(levels[0]), f64::from(float.max()));
        let mut ends: Vec<f64> = levels
            .windows(2)
            .map(|pair| (0.5 * f64::from(pair[0] + pair[1]) - first) / (last - first))
            .collect();
        ends.push(1.0);
        Self::Ends(ends)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Even(groups) => *groups,
            Self::Ends(ends) => ends.len(),
        }
    }

    /// Of `width` bins, where the first group ends and the last one begins.
    fn outermost(&self, width: usize) -> (usize, usize) {
        match self {
            Self::Even(groups) => {
                let groups = (*groups).min(width);
                (width.div_ceil(groups), width - width / groups)
            }
            Self::Ends(ends) => {
                let at =
                    |share: Option<&f64>| (share.unwrap_or(&0.0) * width as f64).ceil() as usize;
                (at(ends.first()), at(ends.iter().rev().nth(1)))
            }
        }
    }
}

/// Prefix sums over uniform bins.
pub(crate) struct BinSums {
    mass: Vec<f64>,              // Σ h before bin k
    entropy: Vec<f64>,           // Σ h ln h before bin k
    non_empty: Vec<f64>,         // Σ [h > 0] before bin k
    terms: Vec<OnceCell<Terms>>, // by width − 1, for groups that are narrow enough
}

/// S ln(S / z) of the groups of one width, by their first bin.
type Terms = Box<[f64]>;

impl BinSums {
    /// The sums for a few windows.
    pub(crate) fn new(counts: &[u64]) -> Self {
        let zero = || {
            let mut sums = Vec::with_capacity(counts.len() + 1);
            sums.push(0.0);
            sums
        };
        let (mut mass, mut entropy, mut non_empty) = (zero(), zero(), zero());
        let masses: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
        let (mut m, mut e, mut z) = (0.0, 0.0, 0.0);
        for (h, h_ln_h) in masses.iter().zip(dispatch(Products { masses: &masses })) {
            m += h;
            e += h_ln_h;
            z += if *h > 0.0 { 1.0 } else { 0.0 };
            mass.push(m);
            entropy.push(e);
            non_empty.push(z);
        }
        Self { mass, entropy, non_empty, terms: Vec::new() }
    }

    /// The sums for the many windows of a search: the terms of groups are kept.
    pub(crate) fn for_search(counts: &[u64], groups: &Groups) -> Self {
        let mut sums = Self::new(counts);
        if let Groups::Even(groups) = groups {
            // Groups that are wide compared with their number occur too rarely to keep their terms.
            let widths = (counts.len() / groups + 1).min(groups / 4);
            sums.terms.resize(widths.min(MAX_TERMS / counts.len().max(1)), OnceCell::new());
        }
        sums
    }

    /// The divergence of keeping bins `start`..`end`, merged to `groups`.
    pub(crate) fn divergence(&self, start: usize, end: usize, groups: &Groups) -> f64 {
        let total = self.mass[self.mass.len() - 1];
        let inside = self.mass[end] - self.mass[start];
        if total == 0.0 {
            return 0.0;
        }
        if inside == 0.0 {
            return f64::INFINITY;
        }
        let (below, above) = (self.mass[start], total - self.mass[end]);
        // Σ P ln P of the kept bins, where the outermost two also have the mass outside.
        let mut p = self.entropy[end] - self.entropy[start];
        for (bin, outside) in [(start, below), (end - 1, above)] {
            if outside > 0.0 {
                let h = self.mass[bin + 1] - self.mass[bin];
                if h == 0.0 {
                    return f64::INFINITY;
                }
                p += x_ln_x(h + outside) - x_ln_x(h);
            }
        }
        let q = match groups {
            Groups::Even(groups) => self.even(start, end, *groups),
            Groups::Ends(ends) => {
                let width = (end - start) as f64;
                self.uneven(start, end, ends.iter().map(|e| start + (e * width).ceil() as usize))
            }
        };
        ((p - q) / total + ln(inside / total)).max(0.0)
    }

    /// A lower bound of [`BinSums::divergence`], in O(1).
    ///
    /// Merging bins never raises a divergence (log sum inequality). Here all but the outermost two
    /// are merged, so the bound depends on how much is clipped. It allows for rounding of both.
    pub(crate) fn min_divergence(&self, start: usize, end: usize, groups: &Groups) -> f64 {
        let total = self.mass[self.mass.len() - 1];
        let inside = self.mass[end] - self.mass[start];
        if total == 0.0 || inside == 0.0 || end - start < 2 {
            return 0.0;
        }
        let (first, last) = groups.outermost(end - start);
        let (mut p_rest, mut q_rest, mut sum) = (1.0, 1.0, 0.0);
        let parts = [
            (start, self.mass[start], (start, start + first)),
            (end - 1, total - self.mass[end], (start + last, end)),
        ];
        for (bin, outside, group) in parts {
            let h = self.mass[bin + 1] - self.mass[bin];
            if h > 0.0 {
                let p = (h + outside) / total;
                let q = self.mean(group) / inside;
                sum += p * ln(p / q);
                (p_rest, q_rest) = (p_rest - p, q_rest - q);
            } else if outside > 0.0 {
                return f64::INFINITY;
            }
        }
        if p_rest > 0.0 && q_rest > 0.0 {
            sum += p_rest * ln(p_rest / q_rest);
        }
        // One rounding for each term of the prefix sums, which are up to ln 2^64 times the mass.
        sum - ROUNDING * self.mass.len() as f64
    }

    /// The mass of a non-empty bin after merging.
    fn mean(&self, (first, next): (usize, usize)) -> f64 {
        (self.mass[next] - self.mass[first]) / (self.non_empty[next] - self.non_empty[first])
    }

    /// Σ P ln Q over groups with these ends.
    fn uneven(&self, start: usize, end: usize, ends: impl Iterator<Item = usize>) -> f64 {
        let (mut q, mut first) = (0.0, start);
        for next in ends {
            q += self.term(first, next, (start, end));
            first = next;
        }
        q
    }

    /// Σ P ln Q over `groups` of equal width, or one for each bin if there are fewer bins.
    fn even(&self, start: usize, end: usize, groups: usize) -> f64 {
        let width = end - start;
        let groups = groups.min(width);
        // Bin k is in group ⌊k · groups / width⌋, which need not divide evenly. So group g ends
        // before bin ⌈(g + 1) · width / groups⌉, here computed without a division for each.
        let (whole, part) = (width / groups, width % groups);
        let (mut floor, mut rest) = (start, 0);
        let ends = (0..groups).map(|_| {
            (floor, rest) = (floor + whole, rest + part);
            if rest >= groups {
                (floor, rest) = (floor + 1, rest - groups);
            }
            floor + usize::from(rest > 0)
        });
        let widest = whole + usize::from(part > 0);
        let (Some(narrow), Some(wide)) = (self.terms(whole), self.terms(widest)) else {
            return self.uneven(start, end, ends);
        };
        let (mut q, mut first) = (0.0, start);
        for next in ends {
            q += if first == start || next == end {
                self.term(first, next, (start, end))
            } else {
                (if next - first == whole { narrow } else { wide })[first]
            };
            first = next;
        }
        q
    }

    /// P ln Q of one group in a window. P differs from the mass in the outermost bins only.
    #[inline]
    fn term(&self, first: usize, next: usize, (start, end): (usize, usize)) -> f64 {
        let mass = self.mass[next] - self.mass[first];
        if mass == 0.0 {
            return 0.0;
        }
        let bins = self.non_empty[next] - self.non_empty[first];
        let mut weight = mass;
        if first == start {
            weight += self.mass[start];
        }
        if next == end {
            weight += self.mass[self.mass.len() - 1] - self.mass[end];
        }
        weight * ln(mass / bins)
    }

    /// The terms of all groups of one width inside a window; `None` if they are not kept.
    fn terms(&self, width: usize) -> Option<&[f64]> {
        let of = || dispatch(Width { sums: self, width });
        Some(self.terms.get(width - 1)?.get_or_init(of))
    }
}

/// h ln h of each bin.
struct Products<'a> {
    masses: &'a [f64],
}

impl Work for Products<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run(self) -> Vec<f64> {
        self.masses.iter().map(|&h| x_ln_x(h)).collect()
    }
}

/// The terms of all groups of one width, for those that are not outermost in a window.
struct Width<'a> {
    sums: &'a BinSums,
    width: usize,
}

impl Work for Width<'_> {
    type Output = Terms;

    #[inline(always)]
    fn run(self) -> Terms {
        let BinSums { mass, non_empty, .. } = self.sums;
        let masses = mass.iter().zip(&mass[self.width..]).map(|(before, after)| after - before);
        let bins = non_empty.iter().zip(&non_empty[self.width..]);
        let term = |(mass, (before, after)): (f64, (&f64, &f64))| {
            let term = mass * ln(mass / (after - before));
            if mass > 0.0 { term } else { 0.0 }
        };
        masses.zip(bins).map(term).collect()
    }
}
