//! Writing and checked reading of the elements of the format: numbers, floats, texts.

use crate::error::{Error, Result};

#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// LEB128: seven bits a byte, the lowest first.
    pub(super) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(super) fn float(&mut self, value: f32) {
        self.raw(&value.to_bits().to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.raw(text.as_bytes());
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
    len: usize, // of all bytes, for error messages
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], len: usize) -> Self {
        Self { rest: bytes, len }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Number of bytes still to read.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn raw(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) =
            self.rest.split_at_checked(len).ok_or(Error::Truncated { len: self.len })?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.raw(1)?[0])
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Error::Altered("a number is too large"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Altered("a number has no end"))
    }

    pub(super) fn float(&mut self) -> Result<f32> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.raw(4)?);
        Ok(f32::from_bits(u32::from_le_bytes(bytes)))
    }

    pub(super) fn text(&mut self) -> Result<String> {
        let len = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let bytes = self.raw(len)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::Altered("a text is not UTF-8"))
    }
}
