//! The configuration as a table: each key, what is expected of it, and what it is for.

use std::fmt;

use toml::Value;

use super::Config;
use crate::error::{Error, Result};

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Expected {
    /// A whole number from the first to the second.
    Whole(i64, i64),
    /// A number from the first to the second.
    Number(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
    /// What no range says: `Config::validate` looks at it.
    Words(&'static str),
    /// Keys of its own.
    #[doc(hidden)]
    Section(&'static [Field]),
}

/// A line of the definition of a section.
#[doc(hidden)]
#[derive(Debug, PartialEq)]
pub struct Field {
    pub(crate) name: &'static str,
    /// The lines of its comment.
    pub(crate) about: &'static [&'static str],
    pub(crate) expected: Expected,
}

/// One key of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// With its sections, as in `train.batch`.
    pub name: String,
    /// What it takes.
    pub expected: Expected,
    /// One sentence on what it is for.
    pub about: String,
}

impl Key {
    /// Its value in a configuration.
    pub fn value(&self, config: &Config) -> Option<Value> {
        let table: toml::Table = config.to_toml().parse().ok()?;
        self.name.split('.').try_fold(Value::Table(table), |value, name| value.as_table()?.get(name).cloned())
    }
}

impl Config {
    /// Every key, in the order of `config.toml`.
    pub fn keys() -> Vec<Key> {
        let mut keys = Vec::new();
        collect(Self::FIELDS, "", &mut keys);
        keys
    }

    /// What a section, as in `input.scribble_values`, is for.
    pub fn about_section(path: &str) -> Option<String> {
        let (mut fields, mut about) = (Self::FIELDS, None);
        for name in path.split('.') {
            let field = fields.iter().find(|field| field.name == name)?;
            let Expected::Section(inner) = field.expected else { return None };
            (fields, about) = (inner, Some(field.sentence()));
        }
        about
    }
}

impl Field {
    fn sentence(&self) -> String {
        self.about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

fn collect(fields: &[Field], path: &str, keys: &mut Vec<Key>) {
    for field in fields {
        let name = joined(path, field.name);
        match field.expected {
            Expected::Section(inner) => collect(inner, &name, keys),
            expected => keys.push(Key { name, expected, about: field.sentence() }),
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(low, i64::MAX) => write!(f, "whole number from {low}"),
            Self::Whole(low, high) => write!(f, "whole number, {low} to {high}"),
            Self::Number(low, high) => write!(f, "number, {} to {}", short(*low), short(*high)),
            Self::OneOf(words) => {
                write!(f, "{}", words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "))
            }
            Self::Switch => f.write_str("`true` or `false`"),
            Self::Words(words) => f.write_str(words),
            Self::Section(_) => f.write_str("a section"),
        }
    }
}

/// Very small and very large numbers by their power of ten.
fn short(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e7).contains(&value.abs()) { format!("{value:e}") } else { value.to_string() }
}

impl Expected {
    /// Whether a value of the right type is in the range.
    ///
    /// # Errors
    /// [`Error::Config`] names the key, the range and the value found.
    pub(crate) fn check(self, key: &str, value: &Value) -> Result<()> {
        let expected = match (self, value) {
            (Self::Whole(low, high), Value::Integer(i)) if (low..=high).contains(i) => return Ok(()),
            (Self::Number(low, high), Value::Float(v)) if (low..=high).contains(v) => return Ok(()),
            (Self::OneOf(words), Value::String(word)) if words.contains(&word.as_str()) => return Ok(()),
            (Self::Switch | Self::Words(_) | Self::Section(_), _) => return Ok(()),
            (Self::Whole(low, high), _) => format!("{low} to {high}"),
            (Self::Number(low, high), _) => format!("{} to {}", short(low), short(high)),
            (Self::OneOf(words), _) => format!("one of {}", words.join(", ")),
        };
        let found = match value {
            Value::String(word) => format!("`{word}`"),
            other => other.to_string(),
        };
        Err(Error::Config(format!("key `{key}`: expected {expected}, found {found}")))
    }
}

/// [`Expected::check`] of every value in a section.
pub(crate) fn check(table: &toml::Table, fields: &[Field], path: &str) -> Result<()> {
    for field in fields {
        let key = joined(path, field.name);
        match (field.expected, table.get(field.name)) {
            (Expected::Section(inner), Some(Value::Table(table))) => check(table, inner, &key)?,
            (expected, Some(value)) => expected.check(&key, value)?,
            (_, None) => {}
        }
    }
    Ok(())
}

/// The key that a misspelt one most likely means: the same name in another section, else the nearest spelling.
pub(crate) fn nearest(key: &str) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let keys = Config::keys();
    let mut namesakes = keys.iter().filter(|known| last(&known.name) == last(key));
    if let (Some(only), None) = (namesakes.next(), namesakes.next()) {
        return Some(only.name.clone());
    }
    let near = keys.into_iter().map(|known| (distance(&known.name, key), known.name));
    let (distance, name) = near.min()?;
    (distance <= 1 + key.len() / 4).then_some(name)
}

/// Levenshtein's distance: the least number of letters to insert, remove or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_key_a_sentence_and_a_range_it_keeps() {
        fn leaves(table: &toml::Table, path: &str, found: &mut Vec<String>) {
            for (name, value) in table {
                match value {
                    Value::Table(inner) => leaves(inner, &joined(path, name), found),
                    _ => found.push(joined(path, name)),
                }
            }
        }
        let mut found = Vec::new();
        leaves(&Config::default().to_toml().parse().unwrap(), "", &mut found);
        let keys = Config::keys();
        let mut names: Vec<_> = keys.iter().map(|key| key.name.clone()).collect();
        names.sort();
        found.sort();
        assert_eq!(names, found);
        for key in &keys {
            assert!(key.about.ends_with('.') && key.about.len() > 8, "{}: {}", key.name, key.about);
            key.expected.check(&key.name, &key.value(&Config::default()).unwrap()).unwrap();
        }
        assert_eq!(Config::about_section("sub").unwrap(), "Phase 2, Unet-sub.");
        assert_eq!(Config::about_section("seed"), None);
    }

    #[test]
    fn a_misspelt_key_is_known_by_its_neighbour() {
        for (key, meant) in [
            ("train.batsh", Some("train.batch")),
            ("batch", Some("train.batch")),
            ("train.alpha", Some("crf.alpha")),
            ("trian.learning_rate", Some("train.learning_rate")),
            ("wt.iteration", Some("wt.iterations")),
            ("frobnicate", None),
        ] {
            assert_eq!(nearest(key).as_deref(), meant, "{key}");
        }
        assert_eq!([distance("kitten", "sitting"), distance("", "abc"), distance("a", "a")], [3, 3, 0]);
    }
}
