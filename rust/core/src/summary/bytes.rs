//! Owns the byte form of a [`Summary`].

use crate::bytes::{Reader, VERSION, VERSION_WITH_FORMATS, Writer};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernel::Moments;
use crate::number::Number;
use crate::state::stats::{Counts, Extremes, Stats};
use crate::summary::formats::{Fits, Misfits};
use crate::summary::{Seen, Summary};

const MAGIC: [u8; 4] = *b"TSSU";
const WHAT: &str = "Summary";
const NOTHING: u8 = 0xff;
const SEVERAL: u8 = 0xfe;

impl Summary {
    /// The versioned byte form; the same numbers give the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let version = if self.fits.is_some() { VERSION_WITH_FORMATS } else { VERSION };
        let mut w = Writer::of_version(MAGIC, version);
        w.u8(self.moments.number() as u8);
        w.u8(match self.seen {
            Seen::Nothing => NOTHING,
            Seen::Several => SEVERAL,
            Seen::One(dtype) => dtype as u8,
        });
        let s = &self.stats;
        let c = &s.counts;
        for n in [c.nan, c.posinf, c.neginf, c.zero, c.negative, c.positive, c.subnormal] {
            w.u64(n);
        }
        write_number(&mut w, s.extremes.map(|e| e.min));
        write_number(&mut w, s.extremes.map(|e| e.max));
        write_number(&mut w, s.extremes.and_then(|e| e.absmin));
        w.i128(s.int_sum);
        w.i128(s.int_l1);
        for pair in [s.sum, s.l1, s.squares, s.m2] {
            w.double(pair);
        }
        w.f64(s.m3);
        w.f64(s.m4);
        w.i64(i64::from(s.scale));
        if let Some(fits) = &self.fits {
            write_fits(&mut w, fits);
        }
        w.finish()
    }

    /// Reads [`Summary::to_bytes`] back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (mut r, version) = Reader::of_versions(bytes, MAGIC, WHAT, VERSION_WITH_FORMATS)?;
        let moments = Moments::from_number(u32::from(r.u8()?))?;
        let seen = match r.u8()? {
            NOTHING => Seen::Nothing,
            SEVERAL => Seen::Several,
            code => Seen::One(Dtype::from_code(code)?),
        };
        let counts = Counts {
            nan: r.u64()?,
            posinf: r.u64()?,
            neginf: r.u64()?,
            zero: r.u64()?,
            negative: r.u64()?,
            positive: r.u64()?,
            subnormal: r.u64()?,
        };
        let (min, max, absmin) = (read_number(&mut r)?, read_number(&mut r)?, read_number(&mut r)?);
        let extremes = min.zip(max).map(|(min, max)| Extremes { min, max, absmin });
        let (int_sum, int_l1) = (r.i128()?, r.i128()?);
        let (sum, l1, squares, m2) = (r.double()?, r.double()?, r.double()?, r.double()?);
        let (m3, m4) = (r.f64()?, r.f64()?);
        let scale = i32::try_from(r.i64()?)
            .map_err(|_| Error::Bytes("serialised Summary has a scale out of range".to_owned()))?;
        let fits = if version == VERSION_WITH_FORMATS { Some(read_fits(&mut r)?) } else { None };
        r.finish()?;
        let stats = Stats { counts, extremes, int_sum, int_l1, sum, l1, squares, m2, m3, m4, scale };
        Self { stats, seen, moments, fits }.checked()
    }
}

fn write_number(w: &mut Writer, number: Option<Number>) {
    match number {
        None => w.u8(0),
        Some(Number::Float(x)) => {
            w.u8(1);
            w.f64(x);
        }
        Some(Number::Int(n)) => {
            w.u8(2);
            w.i128(n);
        }
    }
}

fn read_number(r: &mut Reader<'_>) -> Result<Option<Number>> {
    Ok(match r.u8()? {
        0 => None,
        1 => Some(Number::Float(r.f64()?)),
        2 => Some(Number::Int(r.i128()?)),
        tag => return Err(Error::Bytes(format!("serialised Summary has an unknown number tag: {tag}"))),
    })
}

fn write_fits(w: &mut Writer, fits: &Fits) {
    w.f64(fits.scale());
    w.u64(fits.formats().len() as u64);
    for (format, misfits) in fits.formats() {
        w.u8(*format as u8);
        for n in [misfits.overflow, misfits.subnormal, misfits.flushed] {
            w.u64(n);
        }
    }
}

fn read_fits(r: &mut Reader<'_>) -> Result<Box<Fits>> {
    let scale = r.f64()?;
    // One byte and three counts each.
    let len = r.len(25)?;
    let mut kept = Vec::with_capacity(len);
    for _ in 0..len {
        let format = Dtype::from_code(r.u8()?)?;
        kept.push((format, Misfits { overflow: r.u64()?, subnormal: r.u64()?, flushed: r.u64()? }));
    }
    let formats: Vec<Dtype> = kept.iter().map(|&(format, _)| format).collect();
    let fits = Fits::new(&formats, scale).map_err(|error| Error::Bytes(format!("serialised {WHAT}: {error}")))?;
    fits.with_counts(&kept).map(Box::new)
}
