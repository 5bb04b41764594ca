//! The body of one histogram.

use super::bytes::{Reader, Writer};
use crate::{
    Histogram,
    error::{Error, Result},
    float::Layout,
    histogram::{Pages, Parts},
};

const FIXED: u8 = 1;
const EXACT: u8 = 2;
const SIZED: u8 = 4; // a resolution is known

/// Far above what can be observed, and low enough that sums of many do not overflow.
const MOST: u64 = 1 << 60;

pub(super) fn write(w: &mut Writer, h: &Histogram) {
    let sized = h.mantissa_bits();
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    let flags = flag(h.is_fixed(), FIXED) | flag(h.is_exact(), EXACT);
    w.raw(&[flags | flag(sized.is_some(), SIZED)]);
    let Some(mantissa_bits) = sized else { return };
    w.raw(&[mantissa_bits as u8]);
    for counter in [h.count(), h.zeros(), h.nan(), h.posinf(), h.neginf()] {
        w.number(counter);
    }
    w.float(h.min().unwrap_or(f32::INFINITY));
    w.float(h.max().unwrap_or(f32::NEG_INFINITY));
    w.number(h.codes().count() as u64);
    let mut next = 0;
    for (code, count) in h.codes() {
        w.number((code - next) as u64);
        w.number(count);
        next = code + 1;
    }
}

pub(super) fn read(r: &mut Reader) -> Result<Histogram> {
    let flags = r.byte()?;
    if flags & !(FIXED | EXACT | SIZED) != 0 {
        return Err(Error::Altered("unknown flags"));
    }
    if flags & SIZED == 0 {
        return if flags == EXACT {
            Ok(Histogram::new())
        } else {
            Err(Error::Altered("flags of an empty histogram"))
        };
    }
    let layout = Layout::new(u32::from(r.byte()?)).map_err(|_| Error::Altered("a resolution"))?;
    let mut counters = [0; 5];
    for counter in &mut counters {
        *counter = r.number()?;
        if *counter > MOST {
            return Err(Error::Altered("a count is impossibly large"));
        }
    }
    let [count, zeros, nan, posinf, neginf] = counters;
    let (min, max) = (r.float()?, r.float()?);
    let (pages, binned) = read_bins(r, layout)?;
    if [zeros, nan, posinf, neginf].into_iter().sum::<u64>() + binned != count {
        return Err(Error::Altered("the counts do not add up"));
    }
    check_extremes(&pages, zeros, min, max)?;
    let exact = flags & EXACT != 0;
    let is_edge = |x: f32| x.to_bits() & ((1 << layout.shift()) - 1) == 0;
    if exact && binned + zeros > 0 && !(is_edge(min) && is_edge(max)) {
        return Err(Error::Altered("an extreme is not exact"));
    }
    Ok(Histogram::from_parts(Parts {
        fixed: flags & FIXED != 0,
        exact,
        pages: Some(pages),
        count,
        zeros,
        nan,
        posinf,
        neginf,
        min,
        max,
    }))
}

/// The bins and the sum of their counts.
fn read_bins(r: &mut Reader, layout: Layout) -> Result<(Pages, u64)> {
    let mut pages = Pages::new(layout);
    let (mut next, mut sum) = (0u64, 0u64);
    for _ in 0..r.number()? {
        let code = next.saturating_add(r.number()?);
        let count = r.number()?;
        if code >= layout.codes() as u64 {
            return Err(Error::Altered("a bin does not exist"));
        }
        if layout.split(code as usize).1 >= layout.finite_magnitudes() {
            return Err(Error::Altered("a bin is not finite"));
        }
        sum = sum.saturating_add(count);
        if count == 0 || sum > MOST {
            return Err(Error::Altered("the count of a bin"));
        }
        pages.add(code as usize, count);
        next = code + 1;
    }
    Ok((pages, sum))
}

/// The extremes lie in the outermost bins, and there are none without values.
fn check_extremes(pages: &Pages, zeros: u64, min: f32, max: f32) -> Result<()> {
    let layout = pages.layout();
    // The order of values: negative codes fall, positive ones rise, zero between them.
    let place = |code: usize| match layout.split(code) {
        (true, magnitude) => -1 - magnitude as i64,
        (false, magnitude) => 1 + magnitude as i64,
    };
    let place_of = |x: f32| if x == 0.0 { 0 } else { place(layout.code(x)) };
    let places = || pages.non_empty().map(|(code, _)| place(code));
    let zero = || (zeros > 0).then_some(0);
    let sound = match (places().chain(zero()).min(), places().chain(zero()).max()) {
        (Some(lowest), Some(highest)) => {
            min.is_finite()
                && max.is_finite()
                && min <= max
                && place_of(min) == lowest
                && place_of(max) == highest
                && (min != 0.0 || min.is_sign_positive())
                && (max != 0.0 || max.is_sign_positive())
        }
        _ => min == f32::INFINITY && max == f32::NEG_INFINITY,
    };
    if sound { Ok(()) } else { Err(Error::Altered("the extremes do not fit the bins")) }
}
