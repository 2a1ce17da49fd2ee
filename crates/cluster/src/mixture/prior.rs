//! What is known before a scan is seen: how the three structures look from scan to scan, where they lie, and how the evidence is read.
//!
//! [`Prior::phantoms`] is what `cargo xtask prior` learns on phantom cohorts: no patient's mask is in it.

use std::fmt::Write as _;
use std::sync::LazyLock;

use super::gaussian::{D, Matrix, Vector, is_covariance};
use super::reader::{HIDDEN, INPUTS, Reader};
use crate::Error;

/// The structures in the order of their labels: NCR/NET, ED, ET.
pub(crate) const CLASSES: usize = 3;
/// Terms of the prior over places: 1, and two of depth, see [`super::em::Place`].
pub(crate) const PLACES: usize = 3;

/// Everything that is learned ahead of a scan.
#[derive(Debug, Clone, PartialEq)]
pub struct Prior {
    /// The mean over scans of a structure's mean.
    pub(crate) means: [Vector; CLASSES],
    /// How the means scatter from scan to scan.
    pub(crate) scatter: [Matrix; CLASSES],
    /// The covariance of a structure within a scan.
    pub(crate) within: [Matrix; CLASSES],
    /// Logits of the structures by place.
    pub(crate) places: [[f64; PLACES]; CLASSES],
    /// Reads the evidence.
    pub(crate) reader: Reader,
}

static PHANTOMS: LazyLock<Result<Prior, String>> = LazyLock::new(|| {
    Prior::parse(include_str!("phantoms.txt")).map_err(|e| match e {
        Error::Prior(problem) => problem,
        other => other.to_string(),
    })
});

impl Prior {
    /// What was learned on phantoms.
    ///
    /// # Errors
    /// When the table that comes with this crate is damaged.
    pub fn phantoms() -> Result<&'static Self, Error> {
        PHANTOMS.as_ref().map_err(|problem| Error::Prior(problem.clone()))
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// When a block is missing, of another length or holds what is no finite number, no covariance or no scale; when text follows.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut words = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
        let mut block = |name: &str, length: usize| -> Result<Vec<f64>, Error> {
            let found = words.next().unwrap_or("the end");
            if found != name {
                return Err(Error::Prior(format!("expected `{name}`, found `{found}`")));
            }
            let values: Vec<f64> = words
                .by_ref()
                .take(length)
                .filter_map(|w| w.parse().ok())
                .filter(|v: &f64| v.is_finite())
                .collect();
            if values.len() == length {
                Ok(values)
            } else {
                let found = values.len();
                Err(Error::Prior(format!("`{name}`: expected {length} finite numbers, found {found}")))
            }
        };
        let vectors = |values: Vec<f64>| std::array::from_fn(|k| std::array::from_fn(|i| values[k * D + i]));
        let matrices = |values: Vec<f64>| {
            std::array::from_fn(|k| {
                std::array::from_fn(|i| std::array::from_fn(|j| values[(k * D + i) * D + j]))
            })
        };
        let places =
            |values: Vec<f64>| std::array::from_fn(|k| std::array::from_fn(|i| values[k * PLACES + i]));
        let found = Self {
            means: vectors(block("means", CLASSES * D)?),
            scatter: matrices(block("scatter", CLASSES * D * D)?),
            within: matrices(block("within", CLASSES * D * D)?),
            places: places(block("places", CLASSES * PLACES)?),
            reader: Reader {
                mean: block("reader-mean", INPUTS)?,
                scale: block("reader-scale", INPUTS)?,
                hidden: block("reader-hidden", HIDDEN * INPUTS)?,
                hidden_bias: block("reader-hidden-bias", HIDDEN)?,
                output: block("reader-output", CLASSES * HIDDEN)?,
                output_bias: block("reader-output-bias", CLASSES)?,
            },
        };
        if let Some(word) = words.next() {
            return Err(Error::Prior(format!("expected the end after `reader-output-bias`, found `{word}`")));
        }
        for (name, matrices) in [("scatter", &found.scatter), ("within", &found.within)] {
            if !matrices.iter().all(is_covariance) {
                return Err(Error::Prior(format!(
                    "`{name}`: expected covariances (symmetric, positive definite)"
                )));
            }
        }
        if found.reader.scale.iter().any(|scale| *scale <= 0.0) {
            return Err(Error::Prior("`reader-scale`: expected numbers above 0".into()));
        }
        Ok(found)
    }

    /// As text: named blocks of numbers, six digits each.
    pub fn to_text(&self) -> String {
        let flat = |matrices: &[Matrix; CLASSES]| -> Vec<f64> {
            matrices.iter().flatten().flatten().copied().collect()
        };
        let blocks: [(&str, Vec<f64>, usize); 10] = [
            ("means", self.means.iter().flatten().copied().collect(), D),
            ("scatter", flat(&self.scatter), D),
            ("within", flat(&self.within), D),
            ("places", self.places.iter().flatten().copied().collect(), PLACES),
            ("reader-mean", self.reader.mean.clone(), 12),
            ("reader-scale", self.reader.scale.clone(), 12),
            ("reader-hidden", self.reader.hidden.clone(), 14),
            ("reader-hidden-bias", self.reader.hidden_bias.clone(), HIDDEN),
            ("reader-output", self.reader.output.clone(), HIDDEN),
            ("reader-output-bias", self.reader.output_bias.clone(), CLASSES),
        ];
        let mut text = String::new();
        for (name, values, width) in blocks {
            let _ = writeln!(text, "{name}");
            for row in values.chunks(width) {
                let row: Vec<String> = row.iter().map(|v| format!("{v:.5e}")).collect();
                let _ = writeln!(text, "{}", row.join(" "));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let prior = Prior::phantoms().unwrap();
        assert_eq!(&Prior::parse(&prior.to_text()).unwrap(), prior);
    }

    #[test]
    fn a_damaged_table_is_refused_by_the_name_of_the_block() {
        let text = Prior::phantoms().unwrap().to_text();
        let told = |text: &str| Prior::parse(text).unwrap_err().to_string();
        assert!(told("").contains("`means`"));
        assert!(told(&text.replacen("within", "without", 1)).contains("`within`"));
        assert!(told(&format!("{text}more")).contains("`more`"));
        let first_line_of = |name: &str| text.lines().skip_while(|line| *line != name).nth(1).unwrap();
        let flat = text.replacen(first_line_of("within"), &["0"; D].join(" "), 1);
        assert!(told(&flat).contains("`within`: expected covariances"), "{}", told(&flat));
        let scale = first_line_of("reader-scale");
        let none = text.replacen(scale, &["0"; 12].join(" "), 1);
        assert!(told(&none).contains("`reader-scale`"), "{}", told(&none));
        let cut = &text[..text.len() - 20];
        assert!(told(cut).contains("reader-output-bias"), "{}", told(cut));
    }

    #[test]
    fn the_prior_says_what_is_known_of_gliomas() {
        // Enhancement is what shows on T1ce; the core is the more watery of the rest; oedema lies outside.
        let Prior { means, places, .. } = Prior::phantoms().unwrap();
        let [ncr, ed, et] = means;
        assert!(et[1] > ncr[1] + 1.5 && et[1] > ed[1] + 1.5);
        assert!(ncr[2] > ed[2] && ncr[0] < ed[0]);
        assert!(places[0][1] > places[1][1]);
    }
}
