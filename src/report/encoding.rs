//! Histograms inside a JSON document: HdrHistogram's compressed form, version 2, in base64, as `.hlog` files have it
//! too. Other HdrHistogram implementations read it.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::ZlibDecoder;
use hdrhistogram::serialization::{
    Deserializer as HdrDeserializer, Serializer as _, V2DeflateSerializer,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::{Count, LONGEST, Latency, Moments, SparseLatency, Totals};

/// A histogram as it stands in a document; `null` stands for one without values.
///
/// Buckets have three digits; the fields beside them are exact, in nanoseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Encoded {
    min: u64,
    max: u64,
    mean: f64,
    stdev: f64,
    /// `HISTFAAA…`
    hdr: String,
}

/// Why a saved histogram can't be read.
#[derive(Debug, thiserror::Error)]
enum DecodeError {
    #[error("histogram: not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("histogram: not compressed as HdrHistogram V2 is: {0}")]
    Compression(std::io::Error),
    #[error("histogram: {0}")]
    Form(&'static str),
    #[error("histogram: {0}")]
    Hdr(#[from] hdrhistogram::serialization::DeserializeError),
}

/// Writes the counts that are kept for a flow.
pub fn flow_totals<S: Serializer>(totals: &Totals, serializer: S) -> Result<S::Ok, S::Error> {
    let counts = Count::ALL.iter().filter(|count| count.is_of_flows());
    serializer.collect_map(counts.map(|count| (count.name(), totals.get(*count))))
}

/// The histogram in HdrHistogram's compressed form, version 2, in base64; nothing if it can't be had.
pub fn encode(latency: &Latency) -> Option<Encoded> {
    let moments = latency.moments();
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(&latency.histogram(), &mut bytes)
        .ok()?;
    // Picoseconds: beyond them are only the errors of rounding.
    let rounded = |nanos: f64| (nanos * 1e3).round() / 1e3;
    Some(Encoded {
        min: moments.min()?,
        max: moments.max()?,
        mean: rounded(moments.mean()?),
        stdev: rounded(moments.stdev()?),
        hdr: BASE64.encode(bytes),
    })
}

/// The histogram that a document has, or else what is wrong with it.
pub fn latency(encoded: Option<&Encoded>) -> Result<Latency, String> {
    match encoded {
        None => Ok(Latency::new()),
        Some(encoded) => decode(encoded).map_err(|error| error.to_string()),
    }
}

fn decode(encoded: &Encoded) -> Result<Latency, DecodeError> {
    let plain = inflate(&BASE64.decode(&encoded.hdr)?)?;
    let histogram = HdrDeserializer::new().deserialize(&mut plain.as_slice())?;
    let Encoded {
        min,
        max,
        mean,
        stdev,
        ..
    } = *encoded;
    // What is beyond the longest span has no bucket of its own.
    let same = |exact: u64, bucket| exact > LONGEST || histogram.equivalent(exact, bucket);
    let holds = !histogram.is_empty() && min <= max;
    if !holds || !same(min, histogram.min()) || !same(max, histogram.max()) {
        return Err(DecodeError::Form(
            "its extremes are not those of its buckets",
        ));
    }
    let moments = Moments::from_parts(histogram.len(), min, max, mean, stdev);
    let other_bounds = DecodeError::Form("its bounds are not those that this tool uses");
    Latency::from_parts(histogram, moments).ok_or(other_bounds)
}

/// Takes off the compression, and makes sure that the rest is a histogram that may be handed to `hdrhistogram`, which
/// trusts the lengths and numbers it is given.
///
/// The form is in `HdrHistogram/src/main/java/org/HdrHistogram/AbstractHistogram.java`, `encodeIntoByteBuffer`: two
/// cookies with lengths, 40 bytes of header in all, then the counts as zig-zag variable-length numbers.
fn inflate(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    const COMPRESSED: [u8; 4] = 0x1c84_9314_u32.to_be_bytes();
    const PLAIN: [u8; 4] = 0x1c84_9313_u32.to_be_bytes();
    const HEADER: usize = 40;
    /// All buckets filled, nine bytes each: no histogram of ours is longer.
    const MOST: u64 = 34 * 1024 * 9;

    let form = |wrong| Err(DecodeError::Form(wrong));
    let Some(compressed) = bytes
        .strip_prefix(&COMPRESSED)
        .and_then(|rest| rest.get(4..))
    else {
        return form("does not begin as a compressed HdrHistogram V2 does");
    };
    let mut plain = Vec::new();
    ZlibDecoder::new(compressed)
        .take(MOST)
        .read_to_end(&mut plain)
        .map_err(DecodeError::Compression)?;
    let Some(counts) = plain.get(HEADER..) else {
        return form("ends too early");
    };
    let length = u32::try_from(counts.len()).unwrap_or(u32::MAX);
    if !plain.starts_with(&PLAIN) || plain[4..8] != length.to_be_bytes() {
        return form("contradicts its own length");
    }
    let ours = Latency::new().histogram();
    let (low, high) = (ours.low(), ours.high());
    let digits = u32::from(ours.sigfig());
    if plain[12..16] != digits.to_be_bytes()
        || plain[16..24] != low.to_be_bytes()
        || plain[24..32] != high.to_be_bytes()
    {
        return form("its bounds are not those that this tool uses");
    }
    // Eight bytes with the top bit set make a count that nobody can have reached.
    if counts
        .windows(8)
        .any(|number| number.iter().all(|byte| byte & 0x80 != 0))
    {
        return form("holds an impossible count");
    }
    Ok(plain)
}

/// For `#[serde(with = "…")]` on a [`SparseLatency`].
pub mod sparse {
    use super::*;

    pub fn serialize<S: Serializer>(
        latency: &SparseLatency,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        encode(&latency.expand()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SparseLatency, D::Error> {
        let latency = latency(Option::deserialize(deserializer)?.as_ref());
        let latency = latency.map_err(serde::de::Error::custom)?;
        Ok(SparseLatency::from(&latency))
    }

    pub fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Option<Encoded>>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Latency {
        let mut latency = Latency::new();
        values.iter().for_each(|value| latency.record(*value));
        latency
    }

    /// An [`Encoded`] with the given bytes for a histogram.
    fn with_bytes(plain: &[u8]) -> Encoded {
        let mut encoder = flate2::read::ZlibEncoder::new(plain, flate2::Compression::fast());
        let mut bytes = vec![0x1c, 0x84, 0x93, 0x14, 0, 0, 0, 0];
        encoder.read_to_end(&mut bytes).unwrap();
        let length = bytes.len() as u32 - 8;
        bytes[4..8].copy_from_slice(&length.to_be_bytes());
        Encoded {
            min: 5,
            max: 5,
            mean: 5.0,
            stdev: 0.0,
            hdr: BASE64.encode(bytes),
        }
    }

    /// The uncompressed bytes of a histogram.
    fn plain(values: &[u64]) -> Vec<u8> {
        inflate(&BASE64.decode(encode(&of(values)).unwrap().hdr).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(values in prop::collection::vec(0_u64..10_000_000_000_000, 1..50)) {
            let latency = of(&values);
            let read = decode(&encode(&latency).unwrap()).unwrap();
            prop_assert_eq!(read.histogram(), latency.histogram());
            let (read, was) = (read.moments(), latency.moments());
            prop_assert_eq!((read.count(), read.min(), read.max()), (was.count(), was.min(), was.max()));
            // A thousandth of a nanosecond, and the rounding of numbers as large as an hour.
            let near = |one: Option<f64>, other: Option<f64>| (one.unwrap() - other.unwrap()).abs() < 0.01;
            prop_assert!(near(read.mean(), was.mean()) && near(read.stdev(), was.stdev()));
        }

        #[test]
        fn no_counts_whatever_make_the_reader_panic(
            counts in prop::collection::vec(any::<u8>(), 0..200),
            flipped in 0_usize..40,
            by in any::<u8>(),
        ) {
            let mut bytes = plain(&[5]);
            bytes.truncate(40);
            bytes[4..8].copy_from_slice(&(counts.len() as u32).to_be_bytes());
            bytes.extend(&counts);
            let _ = decode(&with_bytes(&bytes));
            bytes[flipped] ^= by;
            let _ = decode(&with_bytes(&bytes));
        }
    }

    #[test]
    fn a_histogram_without_values_is_null() {
        assert!(encode(&Latency::new()).is_none());
    }

    #[test]
    fn each_way_of_being_broken_is_refused_by_name() {
        let mut other_digits = plain(&[5]);
        other_digits[15] = 2;
        let mut too_long = plain(&[5]);
        too_long.push(0);
        let mut too_many = plain(&[5]);
        too_many.truncate(40);
        too_many.extend([0xff; 9]);
        too_many[4..8].copy_from_slice(&9_u32.to_be_bytes());
        for (bytes, wrong) in [
            (vec![], "ends too early"),
            (other_digits, "bounds"),
            (too_long, "contradicts its own length"),
            (too_many, "impossible count"),
        ] {
            let error = decode(&with_bytes(&bytes)).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        let mut encoded = with_bytes(&plain(&[5]));
        assert!(decode(&encoded).is_ok());
        encoded.min = 4;
        assert!(decode(&encoded).is_err());
        for (hdr, wrong) in [
            ("!", "base64"),
            ("AAAA", "begin"),
            ("HISTFAAAAAQAAAAA", "compressed"),
        ] {
            encoded.hdr = hdr.to_owned();
            let error = decode(&encoded).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
