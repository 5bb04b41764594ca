//! The upper part of counts: what a counter of eight bits cannot hold.
//!
//! Thousands of tensors keep counts below 256 nearly everywhere, so this part is made page by page,
//! when the first counter of a page is full. It has 32 bits; what exceeds them, counts of 2^40, goes
//! to a map that nearly all histograms leave empty.

use std::collections::BTreeMap;

/// What one unit counts: the lower part has eight bits.
pub(super) const UNIT_BITS: u32 = 8;

/// Counts in units of 2^8, by page and place in it.
#[derive(Debug, Clone, Default)]
pub(super) struct High {
    pages: Vec<Box<[u32]>>, // by page; empty, or missing, where nothing was counted
    carried: BTreeMap<(usize, usize), u32>, // by page and place: in units of 2^40
}

impl High {
    /// The counters of a page, of which there are `size`; makes them.
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
    pub(super) fn add(&mut self, page: usize, size: usize, at: usize, units: u64) {
        let counter = &mut self.page(page, size)[at];
        let sum = u64::from(*counter) + (units & u64::from(u32::MAX));
        *counter = sum as u32;
        self.carry(page, at, (sum >> 32) + (units >> 32));
    }

    /// Adds units to neighbours, from place `first` on.
    pub(super) fn add_all(&mut self, page: usize, size: usize, first: usize, units: &[u32]) {
        let counters = &mut self.page(page, size)[first..first + units.len()];
        let mut full = false;
        for (counter, &units) in counters.iter_mut().zip(units) {
            *counter = counter.wrapping_add(units);
            full |= *counter < units;
        }
        if full {
            for (i, &units) in units.iter().enumerate() {
                let full = self.pages[page][first + i] < units;
                self.carry(page, first + i, full.into());
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
    pub(super) fn units(&self, page: usize, at: usize) -> u64 {
        let Some(counter) = self.pages.get(page).and_then(|page| page.get(at)) else { return 0 };
        let carried = if self.carried.is_empty() { None } else { self.carried.get(&(page, at)) };
        u64::from(*counter) | u64::from(carried.copied().unwrap_or(0)) << 32
    }

    /// The counters of a page, none if nothing was counted; `None` if they do not tell all.
    pub(super) fn whole_page(&self, page: usize) -> Option<&[u32]> {
        self.carried.is_empty().then(|| self.pages.get(page).map_or(&[][..], |page| page))
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.pages.capacity() * size_of::<Box<[u32]>>()
            + self.pages.iter().map(|page| size_of_val(&page[..])).sum::<usize>()
            + self.carried.len() * size_of::<((usize, usize), u32)>()
    }
}
