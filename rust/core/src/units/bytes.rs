//! Owns the byte form of a [`UnitActivity`].

use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};
use crate::state::unit_moments::Moments;
use crate::units::{Unit, UnitActivity};

const MAGIC: [u8; 4] = *b"TSUA";
const WHAT: &str = "UnitActivity";

/// Bytes of one unit.
const UNIT_BYTES: usize = 13 * 8;

impl UnitActivity {
    /// The versioned byte form; the same numbers give the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new(MAGIC);
        w.i64(self.dim);
        w.u8(u8::from(self.saturation.is_some()));
        let (low, high) = self.saturation.unwrap_or((0.0, 0.0));
        w.f64(low);
        w.f64(high);
        w.u64(self.updates);
        w.u64(self.units.len() as u64);
        for u in &self.units {
            for n in [u.active, u.zero, u.nonfinite, u.low, u.high, u.last_active] {
                w.u64(n);
            }
            for x in [u.min, u.max] {
                w.f64(x);
            }
            w.u64(u.moments.count);
            w.double(u.moments.mean);
            w.f64(u.moments.m2);
            w.i64(i64::from(u.moments.scale));
        }
        w.finish()
    }

    /// Reads [`UnitActivity::to_bytes`] back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes, MAGIC, WHAT)?;
        let dim = r.i64()?;
        let bounded = match r.u8()? {
            0 => false,
            1 => true,
            flag => return Err(Error::Bytes(format!("serialised {WHAT} has an unknown flag for saturation: {flag}"))),
        };
        let bounds = (r.f64()?, r.f64()?);
        if !bounded && (bounds.0.to_bits(), bounds.1.to_bits()) != (0, 0) {
            return Err(Error::Bytes(format!("serialised {WHAT} has bounds of saturation, and none; it was damaged")));
        }
        let mut activity = Self::new(dim, bounded.then_some(bounds))?;
        activity.updates = r.u64()?;
        for _ in 0..r.len(UNIT_BYTES)? {
            let [active, zero, nonfinite, low, high, last_active] =
                [r.u64()?, r.u64()?, r.u64()?, r.u64()?, r.u64()?, r.u64()?];
            let (min, max) = (r.f64()?, r.f64()?);
            let (count, mean, m2) = (r.u64()?, r.double()?, r.f64()?);
            let scale = i32::try_from(r.i64()?)
                .ok()
                .ok_or_else(|| Error::Bytes(format!("serialised {WHAT} has a scale out of range")))?;
            let moments = Moments { count, mean, m2, scale };
            activity.units.push(Unit { active, zero, nonfinite, low, high, moments, min, max, last_active });
        }
        r.finish()?;
        activity.checked()
    }
}
