//! Owns the byte form of states: a magic word, a version, little-endian fields. Knows nothing of what the fields mean.

use crate::error::{Error, Result};
use crate::number::double::Double;

/// Version of the byte form; raised when a field changes.
pub const VERSION: u8 = 1;

/// Version of a summary that keeps formats. One that does not is written as version 1, which older builds read.
pub const VERSION_WITH_FORMATS: u8 = 2;

/// Collects the fields of one state.
pub struct Writer(Vec<u8>);

impl Writer {
    /// Starts with four letters that name the kind of state, and the version.
    pub fn new(magic: [u8; 4]) -> Self {
        Self::of_version(magic, VERSION)
    }

    /// The same with the version of a state that holds more than the first one did.
    pub fn of_version(magic: [u8; 4], version: u8) -> Self {
        let mut bytes = magic.to_vec();
        bytes.push(version);
        Self(bytes)
    }

    /// One byte.
    pub fn u8(&mut self, x: u8) {
        self.0.push(x);
    }

    /// An unsigned number.
    pub fn u64(&mut self, x: u64) {
        self.0.extend(x.to_le_bytes());
    }

    /// A signed number.
    pub fn i64(&mut self, x: i64) {
        self.0.extend(x.to_le_bytes());
    }

    /// A wide signed number.
    pub fn i128(&mut self, x: i128) {
        self.0.extend(x.to_le_bytes());
    }

    /// A float, bit for bit.
    pub fn f64(&mut self, x: f64) {
        self.u64(x.to_bits());
    }

    /// A pair.
    pub fn double(&mut self, x: Double) {
        self.f64(x.hi);
        self.f64(x.lo);
    }

    /// All bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads the fields of one state back.
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Checks magic word and version; `what` names the state in errors.
    pub fn new(bytes: &'a [u8], magic: [u8; 4], what: &'static str) -> Result<Self> {
        Self::of_versions(bytes, magic, what, VERSION).map(|(reader, _)| reader)
    }

    /// The same for any version up to `newest`; says which one it is.
    pub fn of_versions(bytes: &'a [u8], magic: [u8; 4], what: &'static str, newest: u8) -> Result<(Self, u8)> {
        let Some((head, rest)) = bytes.split_first_chunk::<5>() else {
            return Err(Error::Bytes(format!("not a serialised {what}: only {} bytes", bytes.len())));
        };
        if head[..4] != magic {
            return Err(Error::Bytes(format!(
                "not a serialised {what}: it starts with {:?}, expected {magic:?}",
                &head[..4]
            )));
        }
        let version = head[4];
        if !(VERSION..=newest).contains(&version) {
            let read = if newest == VERSION {
                format!("version {VERSION}")
            } else {
                format!("versions {VERSION} to {newest}")
            };
            return Err(Error::Bytes(format!("serialised {what} has version {version}, this build reads {read}")));
        }
        Ok((Self { rest, what }, version))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| Error::Bytes(format!("serialised {} is cut short: {N} more bytes expected", self.what)))?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take::<1>()?[0])
    }

    /// An unsigned number.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// A length that the rest of the bytes can hold, `size` bytes an item.
    pub fn len(&mut self, size: usize) -> Result<usize> {
        let n = self.u64()?;
        if n > (self.rest.len() / size.max(1)) as u64 {
            return Err(Error::Bytes(format!("serialised {} is cut short: it announces {n} items", self.what)));
        }
        Ok(n as usize)
    }

    /// A signed number.
    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.take()?))
    }

    /// A wide signed number.
    pub fn i128(&mut self) -> Result<i128> {
        Ok(i128::from_le_bytes(self.take()?))
    }

    /// A float.
    pub fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_bits(self.u64()?))
    }

    /// A pair.
    pub fn double(&mut self) -> Result<Double> {
        Ok(Double { hi: self.f64()?, lo: self.f64()? })
    }

    /// All bytes must have been read.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Error::Bytes(format!("serialised {} has {} bytes too many", self.what, self.rest.len())))
        }
    }
}
