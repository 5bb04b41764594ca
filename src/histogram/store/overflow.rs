//! The upper part of the counts: what a counter of eight bits cannot hold.
//!
//! A page gets 32-bit counters here when one of its 8-bit counters wraps. Counts of 2^40 and more
//! go to a map that nearly all histograms leave empty.

use std::collections::BTreeMap;

/// Bits of the lower part: one unit here counts 2^8 values.
pub(crate) const UNIT_BITS: u32 = 8;

/// Counts in units of 2^8, by page and place in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overflow {
    pages: Vec<Box<[u32]>>, // by page; empty or missing where no counter wrapped
    carried: BTreeMap<(usize, usize), u32>, // by page and place: in units of 2^40
}

impl Overflow {
    /// The `size` counters of a page, which are made if absent.
    fn page(&mut self, page: usize, size: usize) -> &mut [u32] {
        if self.pages.len() <= page {
            self.pages.resize(page + 1, Box::default());
        }
        let counters = &mut self.pages[page];
        if counters.is_empty() {
            *counters = vec![0; size].into();
        }
        counters
    }

    /// Adds units to one counter.
    pub(crate) fn add(&mut self, page: usize, size: usize, at: usize, units: u64) {
        let counter = &mut self.page(page, size)[at];
        let sum = u64::from(*counter) + (units & u64::from(u32::MAX));
        *counter = sum as u32;
        self.carry(page, at, (sum >> 32) + (units >> 32));
    }

    /// Adds units to neighboring counters, from place `first` on.
    pub(crate) fn add_all(&mut self, page: usize, size: usize, first: usize, units: &[u32]) {
        let counters = &mut self.page(page, size)[first..first + units.len()];
        let mut wrapped = false;
        for (counter, &units) in counters.iter_mut().zip(units) {
            *counter = counter.wrapping_add(units);
            wrapped |= *counter < units;
        }
        if wrapped {
            for (i, &units) in units.iter().enumerate() {
                let wrapped = self.pages[page][first + i] < units;
                self.carry(page, first + i, wrapped.into());
            }
        }
    }

    #[inline]
    fn carry(&mut self, page: usize, at: usize, carry: u64) {
        if carry > 0 {
            let carried = self.carried.entry((page, at)).or_default();
            *carried = carried.saturating_add(u32::try_from(carry).unwrap_or(u32::MAX));
        }
    }

    /// The units of a counter.
    pub(crate) fn units(&self, page: usize, at: usize) -> u64 {
        let Some(counter) = self.pages.get(page).and_then(|page| page.get(at)) else { return 0 };
        let carried = if self.carried.is_empty() { None } else { self.carried.get(&(page, at)) };
        u64::from(*counter) | u64::from(carried.copied().unwrap_or(0)) << 32
    }

    /// The counters of a page, none if absent. `None` if any counter of the histogram has carried.
    pub(crate) fn whole_page(&self, page: usize) -> Option<&[u32]> {
        self.carried.is_empty().then(|| self.pages.get(page).map_or(&[][..], |page| page))
    }

    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.pages.capacity() * size_of::<Box<[u32]>>()
            + self.pages.iter().map(|page| size_of_val(&page[..])).sum::<usize>()
            + self.carried.len() * size_of::<((usize, usize), u32)>()
    }
}
