//! A part of a report's JSON document.
//!
//! The whole report is walked through for each part, but only the items of the part are written, so that a list of thousands
//! is passed over in microseconds.

use std::io::{self, Write};

use serde::Serialize;
use serde::ser::{Error as _, Impossible, SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use serde_json::ser::{Formatter, PrettyFormatter};
use serde_json::{Error, Result};

use super::Report;
use super::json::write_value;
use super::pieces::{Next, PIECE};

/// The fields of a report that are long: each of their items may stand in another piece.
const LONG: [&str; 10] = [
    "losses",
    "stream_losses",
    "impairments",
    "marks",
    "moves",
    "path_split",
    "path_stages",
    "seconds",
    "flows",
    "histograms",
];
/// Those of them whose items have histograms, which take long to encode: one makes a piece.
const HISTOGRAMS: [&str; 5] = [
    "marks",
    "path_split",
    "path_stages",
    "seconds",
    "histograms",
];

/// Declares methods of a serializer that a report does not call.
macro_rules! none {
    ($($method:ident($($argument:ty),*) -> $what:ty;)*) => {
        $(none! { @ $method $what; $($argument),* })*
    };
    (@ $method:ident $what:ty; ) => { fn $method(self) -> Result<$what> { Err(unexpected()) } };
    (@ $method:ident $what:ty; $a:ty) => { fn $method(self, _: $a) -> Result<$what> { Err(unexpected()) } };
    (@ $method:ident $what:ty; $a:ty, $b:ty) => {
        fn $method(self, _: $a, _: $b) -> Result<$what> { Err(unexpected()) }
    };
    (@ $method:ident $what:ty; $a:ty, $b:ty, $c:ty) => {
        fn $method(self, _: $a, _: $b, _: $c) -> Result<$what> { Err(unexpected()) }
    };
    (@ $method:ident $what:ty; $a:ty, $b:ty, $c:ty, $d:ty) => {
        fn $method(self, _: $a, _: $b, _: $c, _: $d) -> Result<$what> { Err(unexpected()) }
    };
}

/// Writes the part of a document that begins at an item, and ends when it is long enough. An item is a field of the report;
/// of a [long](LONG) one its name, its begin, each of its items, and its end.
pub(super) struct Window<'o> {
    form: PrettyFormatter<'static>,
    out: &'o mut Vec<u8>,
    /// The items to pass over.
    from: usize,
    /// The items so far.
    at: usize,
    is_full: bool,
    /// Maps and lists that have begun.
    level: usize,
    /// The items of the present list have histograms.
    has_histograms: bool,
}

impl<'o> Window<'o> {
    pub(super) fn new(from: usize, out: &'o mut Vec<u8>) -> Window<'o> {
        Window {
            form: PrettyFormatter::new(),
            out,
            from,
            at: 0,
            is_full: false,
            level: 0,
            has_histograms: false,
        }
    }

    /// Writes the part of `report`, and returns where the next one begins.
    pub(super) fn write(mut self, report: &Report) -> io::Result<Next> {
        match report.serialize(&mut self) {
            Ok(()) => Ok(None),
            Err(_) if self.is_full => Ok(Some(self.at)),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns true if the next item is to be written. Fails behind the last one.
    fn is_next(&mut self) -> Result<bool> {
        self.is_full |= self.out.len() >= PIECE;
        if self.is_full {
            return Err(Error::custom("the piece is full"));
        }
        self.at += 1;
        Ok(self.at > self.from)
    }

    /// Has the formatter write, or if the item `is_passed_over`, only count the levels.
    fn form(
        &mut self,
        is_written: bool,
        write: impl FnOnce(&mut PrettyFormatter<'static>, &mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        match is_written {
            true => write(&mut self.form, self.out),
            false => write(&mut self.form, &mut io::sink()),
        }
        .map_err(Error::custom)
    }

    fn key(&mut self, key: &(impl Serialize + ?Sized), is_first: bool) -> Result<()> {
        self.form(true, |form, out| form.begin_object_key(out, is_first))?;
        write_value(key, &mut self.form, self.out)?;
        self.form(true, |form, out| form.end_object_key(out))?;
        self.form(true, |form, out| form.begin_object_value(out))
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<()> {
        self.is_full = self.has_histograms;
        write_value(value, &mut self.form, self.out)
    }
}

/// A map or a list that is being written.
pub(super) struct Items<'w, 'o> {
    window: &'w mut Window<'o>,
    /// Items of it were written or passed over.
    has_items: bool,
}

impl SerializeMap for Items<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_entry<K, V>(&mut self, key: &K, value: &V) -> Result<()>
    where
        K: ?Sized + Serialize,
        V: ?Sized + Serialize,
    {
        let Items { window, has_items } = self;
        let is_first = !std::mem::replace(has_items, true);
        let name = serde_json::to_string(key)?;
        let name = name.trim_matches('"');
        let is_long = window.level == 1 && LONG.contains(&name);
        let is_next = window.is_next()?;
        if is_next {
            window.key(key, is_first)?;
        }
        if is_long {
            window.has_histograms = HISTOGRAMS.contains(&name);
            value.serialize(&mut **window)?;
            window.has_histograms = false;
        } else if is_next {
            window.value(value)?;
        }
        window.form(is_next, |form, out| form.end_object_value(out))
    }

    fn serialize_key<T: ?Sized + Serialize>(&mut self, _: &T) -> Result<()> {
        Err(unexpected())
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, _: &T) -> Result<()> {
        Err(unexpected())
    }

    fn end(self) -> Result<()> {
        let window = self.window;
        let is_next = window.is_next()?;
        window.level -= 1;
        window.form(is_next, |form, out| form.end_object(out))?;
        match window.level {
            0 => window.form(is_next, |_, out| out.write_all(b"\n")),
            _ => Ok(()),
        }
    }
}

/// As a map.
impl SerializeStruct for Items<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T>(&mut self, key: &'static str, value: &T) -> Result<()>
    where
        T: ?Sized + Serialize,
    {
        self.serialize_entry(key, value)
    }

    fn end(self) -> Result<()> {
        SerializeMap::end(self)
    }
}

impl SerializeSeq for Items<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
        let Items { window, has_items } = self;
        let is_first = !std::mem::replace(has_items, true);
        if window.is_next()? {
            window.form(true, |form, out| form.begin_array_value(out, is_first))?;
            window.value(value)?;
        }
        window.form(true, |form, out| form.end_array_value(out))
    }

    fn end(self) -> Result<()> {
        let window = self.window;
        let is_next = window.is_next()?;
        window.level -= 1;
        window.form(is_next, |form, out| form.end_array(out))
    }
}

impl<'w, 'o> Serializer for &'w mut Window<'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Items<'w, 'o>;
    type SerializeMap = Items<'w, 'o>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeStruct = Items<'w, 'o>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_map(self, _: Option<usize>) -> Result<Items<'w, 'o>> {
        let is_next = self.is_next()?;
        self.level += 1;
        self.form(is_next, |form, out| form.begin_object(out))?;
        Ok(Items {
            window: self,
            has_items: false,
        })
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'w, 'o>> {
        let is_next = self.is_next()?;
        self.level += 1;
        self.form(is_next, |form, out| form.begin_array(out))?;
        Ok(Items {
            window: self,
            has_items: false,
        })
    }

    none! {
        serialize_bool(bool) -> (); serialize_i8(i8) -> (); serialize_i16(i16) -> (); serialize_i32(i32) -> ();
        serialize_i64(i64) -> (); serialize_u8(u8) -> (); serialize_u16(u16) -> (); serialize_u32(u32) -> ();
        serialize_u64(u64) -> (); serialize_f32(f32) -> (); serialize_f64(f64) -> (); serialize_char(char) -> ();
        serialize_str(&str) -> (); serialize_bytes(&[u8]) -> (); serialize_none() -> (); serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> (); serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_tuple(usize) -> Impossible<(), Error>;
        serialize_tuple_struct(&'static str, usize) -> Impossible<(), Error>;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Impossible<(), Error>;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Impossible<(), Error>;
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Items<'w, 'o>> {
        self.serialize_map(Some(length))
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, _: &T) -> Result<()> {
        Err(unexpected())
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<()> {
        Err(unexpected())
    }
}

/// A report is a map, and what is long in it are lists, maps and structures.
fn unexpected() -> Error {
    Error::custom("neither a list nor a map nor a structure")
}
