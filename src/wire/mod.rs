//! The one format for files, pickles and the network: versioned, checked, never executable.
//!
//! ```text
//! "QCAL"  version: u8  kind: u8  body  crc32 of all before: u32 little-endian
//! ```
//!
//! Whole numbers in the body are LEB128. A histogram is its counters and the non-empty bins as
//! (gap to the previous code, count) by rising code, so equal state gives equal bytes. A
//! calibrator is a text of settings (JSON, which this crate does not interpret) and the tensors in
//! the order given, each with its name.
//!
//! Version 2 has statistics by channel too, so its tensors begin with their kind. What needs no
//! more than version 1 is written as such: the version is the least that can hold the content, and
//! older readers keep reading what they can.
//!
//! Reading checks everything before it believes it: the checksum, every code, every sum, and the
//! place of the extremes. Hostile bytes give an [`Error`]. Memory and time are in proportion to the
//! bytes, whatever these hold: bins that lie apart are kept as a list (`histogram/pages.rs`), tensors of nothing are
//! few, and no more is reserved for what is only claimed than for what is there.

mod bytes;
mod channels;
mod histogram;
#[cfg(test)]
mod tests;

use bytes::{Reader, Writer};

use crate::{
    ChannelStats, Histogram, TensorStats,
    error::{Error, Result},
};

const MAGIC: &[u8; 4] = b"QCAL";
/// The newest version that this build reads.
const VERSION: u8 = 2;
/// The version of everything without channels.
const WHOLE: u8 = 1;
const CHECKSUM: usize = 4;
/// Memory for each byte that tensors may take beside their bins. Twenty bytes are the least that one has that was
/// observed, and it takes some six hundred.
const TIMES: usize = 32;
/// Memory that may be taken beyond that: for tensors that were never observed, of some five bytes.
const EMPTY_MEMORY: usize = 1 << 20;

/// What the bytes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Histogram = 1,
    Calibrator = 2,
    Tensor = 3,
    Channels = 4,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Histogram => "histogram",
            Self::Calibrator => "calibrator",
            Self::Tensor => "tensor",
            Self::Channels => "tensor by channel",
        }
    }
}

/// What is kept of one tensor.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // nearly all entries are the large one
pub enum Entry {
    /// one histogram for all of it
    Whole(TensorStats),
    /// one for each channel
    Channels(ChannelStats),
}

/// Named tensors with their settings: what a calibrator file holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Archive {
    /// settings as text, usually JSON
    pub settings: String,
    /// names and statistics, in order
    pub tensors: Vec<(String, Entry)>,
}

impl Histogram {
    /// The bytes of this histogram; equal histograms have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        seal(WHOLE, Kind::Histogram, |w| histogram::write(w, self))
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Newer`], [`Error::Kind`], [`Error::Truncated`] or
    /// [`Error::Altered`]; never a panic.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        open(Kind::Histogram, bytes, |_, r| histogram::read(r))
    }
}

impl TensorStats {
    /// The bytes of these statistics.
    pub fn to_bytes(&self) -> Vec<u8> {
        seal(WHOLE, Kind::Tensor, |w| write_tensor(w, self))
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// As [`Histogram::from_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        open(Kind::Tensor, bytes, |_, r| read_tensor(r))
    }
}

impl Archive {
    /// The bytes of named tensors, in the order given; all of them observed, and no name twice.
    pub fn write<'a>(
        settings: &str,
        tensors: impl ExactSizeIterator<Item = (&'a str, &'a Entry)> + Clone,
    ) -> Vec<u8> {
        let whole = tensors.clone().all(|(_, entry)| matches!(entry, Entry::Whole(_)));
        let version = if whole { WHOLE } else { VERSION };
        seal(version, Kind::Calibrator, |w| {
            w.text(settings);
            w.number(tensors.len() as u64);
            for (name, entry) in tensors {
                w.text(name);
                entry.write(version, w);
            }
        })
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// As [`Histogram::from_bytes`]; [`Error::Twice`] names a tensor that occurs twice.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        open(Kind::Calibrator, bytes, |version, r| {
            let settings = r.text()?;
            let count = r.number()?;
            let mut tensors = Vec::new(); // grows with the bytes read, not with what they claim
            for _ in 0..count {
                tensors.push((r.text()?, Entry::read(version, r)?));
                if size_of_val(&tensors[..]) > EMPTY_MEMORY + TIMES * bytes.len() {
                    return Err(Error::Altered("thousands of tensors were never observed"));
                }
            }
            refuse_twice(&tensors)?;
            Ok(Self { settings, tensors })
        })
    }
}

/// Refuses names that occur twice: one tensor would take the place of the other.
fn refuse_twice(tensors: &[(String, Entry)]) -> Result<()> {
    let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Twice(pair[0].to_owned())),
        None => Ok(()),
    }
}

impl Entry {
    fn write(&self, version: u8, w: &mut Writer) {
        let kind = match self {
            Self::Whole(_) => Kind::Tensor,
            Self::Channels(_) => Kind::Channels,
        };
        if version > WHOLE {
            w.raw(&[kind as u8]);
        }
        match self {
            Self::Whole(stats) => write_tensor(w, stats),
            Self::Channels(stats) => channels::write(w, stats),
        }
    }

    fn read(version: u8, r: &mut Reader) -> Result<Self> {
        let kind = if version > WHOLE { r.byte()? } else { Kind::Tensor as u8 };
        if kind == Kind::Tensor as u8 {
            Ok(Self::Whole(read_tensor(r)?))
        } else if kind == Kind::Channels as u8 {
            Ok(Self::Channels(channels::read(r)?))
        } else {
            Err(Error::Altered("the kind of a tensor is not known"))
        }
    }
}

fn write_tensor(w: &mut Writer, stats: &TensorStats) {
    w.number(stats.observations);
    for h in [&stats.histogram, &stats.minima, &stats.maxima] {
        histogram::write(w, h);
    }
}

fn read_tensor(r: &mut Reader) -> Result<TensorStats> {
    let observations = r.number()?;
    let (all, minima, maxima) = (histogram::read(r)?, histogram::read(r)?, histogram::read(r)?);
    TensorStats::from_counts(all, observations, minima, maxima).map_err(histogram::altered)
}

fn seal(version: u8, kind: Kind, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.raw(MAGIC);
    writer.raw(&[version, kind as u8]);
    body(&mut writer);
    let checksum = crc32fast::hash(writer.bytes());
    writer.raw(&checksum.to_le_bytes());
    writer.into_bytes()
}

/// `body` is given the version, too.
fn open<T>(kind: Kind, bytes: &[u8], body: impl FnOnce(u8, &mut Reader) -> Result<T>) -> Result<T> {
    if !bytes.starts_with(&MAGIC[..bytes.len().min(4)]) {
        return Err(Error::Foreign);
    }
    let truncated = Error::Truncated { len: bytes.len() };
    let [_, _, _, _, version, found, rest @ ..] = bytes else {
        return Err(truncated);
    };
    if *version > VERSION {
        return Err(Error::Newer { found: *version, known: VERSION });
    }
    let Some((inside, checksum)) = rest.split_last_chunk::<CHECKSUM>() else {
        return Err(truncated);
    };
    let sound = crc32fast::hash(&bytes[..bytes.len() - CHECKSUM]).to_le_bytes() == *checksum;
    if *found != kind as u8 && sound {
        return Err(Error::Kind { want: kind.name(), found: *found });
    }
    // Parsed before the checksum is judged, so that a file cut off is called just that.
    let mut reader = Reader::new(inside, bytes.len());
    let result = body(*version, &mut reader);
    if !sound {
        return Err(match result {
            Err(error @ Error::Truncated { .. }) => error,
            _ => Error::Altered("the checksum does not match"),
        });
    }
    if reader.is_empty() { result } else { result.and(Err(Error::Altered("bytes are left over"))) }
}
