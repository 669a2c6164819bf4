//! Reading JSON as loosely as the client libraries need it: `null` is the same as absent, and numbers
//! come as integers, as floats without a fraction, or as strings.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

use super::payload::{Payload, PayloadKind, is_shallow};

/// Any value; `null` is its default.
pub fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An integer that fits; `null` is 0.
pub(super) fn number<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<i128>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(Number(PhantomData))
}

/// An application's JSON, whatever it is: `null` is a value too.
pub(super) fn payload<'de, D>(deserializer: D) -> Result<Option<Payload>, D::Error>
where
    D: Deserializer<'de>,
{
    let raw = <&RawValue>::deserialize(deserializer)?.get().as_bytes();
    if !is_shallow(raw) {
        return Err(D::Error::custom("nested too deep"));
    }
    Ok(Some(Payload {
        kind: PayloadKind::Json,
        bytes: Bytes::copy_from_slice(raw),
    }))
}

struct Number<T>(PhantomData<T>);

impl<T: TryFrom<i128>> Number<T> {
    fn fit<E: Error>(number: i128) -> Result<T, E> {
        T::try_from(number).map_err(|_| E::custom("number out of range"))
    }
}

impl<T: TryFrom<i128>> Visitor<'_> for Number<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        Self::fit(number.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        Self::fit(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        if number.fract() != 0.0 {
            return Err(E::custom("a fraction"));
        }
        // Saturates, and what is so large fits nowhere.
        Self::fit(number as i128)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let number = text.parse::<i128>();
        Self::fit(number.map_err(|_| E::custom("not an integer"))?)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Self::fit(0)
    }
}
