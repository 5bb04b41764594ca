//! The format of files, pickles and messages: versioned, checked, never executable.
//!
//! ```text
//! "QCAL"  version: u8  kind: u8  body  crc32 of all preceding bytes: u32 little-endian
//! ```
//!
//! Integers in the body are LEB128. A histogram is its counters and its non-empty bins, each as
//! (gap to the previous code, count), by rising code. So equal states give equal bytes. A
//! calibrator is a text of settings and the tensors in the order given, each with its name. The
//! settings are JSON, which this crate does not interpret.
//!
//! Version 2 adds statistics by channel, so its tensors begin with their kind. Bytes are written in
//! the lowest version that can hold the content, so that older readers can read them.
//!
//! Reading checks everything: the checksum, every code, every sum, and the place of the extremes.
//! Hostile bytes give an [`Error`]. Memory and time are proportional to the number of bytes,
//! whatever they contain. Distant bins are kept as a list (`histogram/store`), tensors without
//! observations are limited, and memory is reserved for bytes that exist, not for lengths that they
//! claim.

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
/// The version of content without channels.
const WITHOUT_CHANNELS: u8 = 1;
const CHECKSUM: usize = 4;
/// Bytes of memory that tensors may take for each byte read, beside their bins. An observed tensor
/// has at least 20 bytes and takes some 600 bytes of memory.
const MEMORY_FACTOR: usize = 32;
/// Bytes of memory beyond that, for tensors without observations, which have some five bytes each.
const EMPTY_MEMORY: usize = 1 << 20;

/// The kind of object that the bytes contain.
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

/// The statistics of one tensor.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // nearly all entries are of the large variant
pub enum Entry {
    /// one histogram for all values
    Tensor(TensorStats),
    /// one histogram for each channel
    Channels(ChannelStats),
}

/// Named tensors and settings: the content of a calibrator file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Archive {
    /// settings as text, usually JSON
    pub settings: String,
    /// names and statistics, in order
    pub tensors: Vec<(String, Entry)>,
}

impl Histogram {
    /// The bytes of this histogram. Equal histograms have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        seal(WITHOUT_CHANNELS, Kind::Histogram, |w| histogram::write(w, self))
    }

    /// Reads the bytes of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Newer`], [`Error::Kind`], [`Error::Truncated`] or
    /// [`Error::Altered`]; it never panics.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        open(Kind::Histogram, bytes, |_, r| histogram::read(r))
    }
}

impl TensorStats {
    /// The bytes of these statistics.
    pub fn to_bytes(&self) -> Vec<u8> {
        seal(WITHOUT_CHANNELS, Kind::Tensor, |w| write_tensor(w, self))
    }

    /// Reads the bytes of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// As [`Histogram::from_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        open(Kind::Tensor, bytes, |_, r| read_tensor(r))
    }
}

impl Archive {
    /// The bytes of named tensors, in the order given. All must have observations, and names must
    /// be unique.
    pub fn write<'a>(
        settings: &str,
        tensors: impl ExactSizeIterator<Item = (&'a str, &'a Entry)> + Clone,
    ) -> Vec<u8> {
        let no_channels = tensors.clone().all(|(_, entry)| matches!(entry, Entry::Tensor(_)));
        let version = if no_channels { WITHOUT_CHANNELS } else { VERSION };
        seal(version, Kind::Calibrator, |w| {
            w.text(settings);
            w.number(tensors.len() as u64);
            for (name, entry) in tensors {
                w.text(name);
                entry.write(version, w);
            }
        })
    }

    /// Reads the bytes of [`write`](Self::write).
    ///
    /// # Errors
    /// As [`Histogram::from_bytes`]; [`Error::Duplicate`] with a name that occurs twice.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        open(Kind::Calibrator, bytes, |version, r| {
            let settings = r.text()?;
            let count = r.number()?;
            let mut tensors = Vec::new(); // grows with the bytes read, not by the claimed number
            for _ in 0..count {
                tensors.push((r.text()?, Entry::read(version, r)?));
                if size_of_val(&tensors[..]) > EMPTY_MEMORY + MEMORY_FACTOR * bytes.len() {
                    return Err(Error::Altered("thousands of tensors were never observed"));
                }
            }
            refuse_duplicates(&tensors)?;
            Ok(Self { settings, tensors })
        })
    }
}

/// Refuses names that occur twice, since one tensor would replace the other.
fn refuse_duplicates(tensors: &[(String, Entry)]) -> Result<()> {
    let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Duplicate(pair[0].to_owned())),
        None => Ok(()),
    }
}

impl Entry {
    fn write(&self, version: u8, w: &mut Writer) {
        let kind = match self {
            Self::Tensor(_) => Kind::Tensor,
            Self::Channels(_) => Kind::Channels,
        };
        if version > WITHOUT_CHANNELS {
            w.raw(&[kind as u8]);
        }
        match self {
            Self::Tensor(stats) => write_tensor(w, stats),
            Self::Channels(stats) => channels::write(w, stats),
        }
    }

    fn read(version: u8, r: &mut Reader) -> Result<Self> {
        let kind = if version > WITHOUT_CHANNELS { r.byte()? } else { Kind::Tensor as u8 };
        if kind == Kind::Tensor as u8 {
            Ok(Self::Tensor(read_tensor(r)?))
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

/// Checks header and checksum, and reads the body. `body` receives the version, too.
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
    // Parsed before the checksum is judged, so that a truncated file is reported as truncated.
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
