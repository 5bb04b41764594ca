//! The body of one histogram.

use super::bytes::{Reader, Writer};
use crate::{
    Histogram,
    error::{Error, Result},
    float::Layout,
    histogram::RawCounts,
};

const FIXED: u8 = 1;
const EXACT: u8 = 2;
const SIZED: u8 = 4; // the resolution is known

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
    read_like(None, r)
}

/// Reads a histogram. If another one is given, the resolution must be the same; that is checked
/// before any bin is read.
pub(super) fn read_like(other: Option<&Histogram>, r: &mut Reader) -> Result<Histogram> {
    let flags = r.byte()?;
    if flags & !(FIXED | EXACT | SIZED) != 0 {
        return Err(Error::Altered("unknown flags"));
    }
    let fixed = flags & FIXED != 0;
    let sized = if flags & SIZED == 0 { None } else { Some(u32::from(r.byte()?)) };
    if other.is_some_and(|other| (other.is_fixed(), other.mantissa_bits()) != (fixed, sized)) {
        return Err(Error::Altered("the channels differ in resolution"));
    }
    let Some(mantissa_bits) = sized else {
        return if flags == EXACT {
            Ok(Histogram::new())
        } else {
            Err(Error::Altered("flags of an empty histogram"))
        };
    };
    Layout::new(mantissa_bits).map_err(altered)?;
    let [count, zeros, nan, posinf, neginf] = read_counters(r)?;
    let (min, max) = (r.float()?, r.float()?);
    let none = min == f32::INFINITY && max == f32::NEG_INFINITY;
    let counts = RawCounts {
        mantissa_bits,
        fixed,
        exact: flags & EXACT != 0,
        zeros,
        nan,
        posinf,
        neginf,
        extremes: (!none).then_some((min, max)),
        bins: read_bins(r)?,
    };
    let histogram = Histogram::from_counts(&counts).map_err(altered)?;
    if histogram.count() != count {
        return Err(Error::Altered("the counts do not add up"));
    }
    Ok(histogram)
}

/// Counts that no recording gives mean, in a file, that the file was altered.
pub(super) fn altered(error: Error) -> Error {
    match error {
        Error::MantissaBits(_) => Error::Altered("a resolution"),
        Error::Counts(what) => Error::Altered(what),
        Error::TooMany { .. } => Error::Altered("a count is impossibly large"),
        other => other,
    }
}

fn read_counters(r: &mut Reader) -> Result<[u64; 5]> {
    let mut counters = [0; 5];
    for counter in &mut counters {
        *counter = r.number()?;
    }
    Ok(counters)
}

/// The bins, whose codes are written as gaps.
fn read_bins(r: &mut Reader) -> Result<Vec<(u64, u64)>> {
    let number = r.number()?;
    // A bin takes at least two bytes, so no more is reserved than the bytes that exist can hold.
    let mut bins =
        Vec::with_capacity((r.left() / 2).min(usize::try_from(number).unwrap_or(usize::MAX)));
    let mut next = 0u64;
    for _ in 0..number {
        let code = next.saturating_add(r.number()?);
        bins.push((code, r.number()?));
        next = code.saturating_add(1);
    }
    Ok(bins)
}
