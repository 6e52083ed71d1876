//! `[ca]` as it is written.

use super::Reader;
use crate::config::{BroughtCa, Ca, LeafKey};
use serde::Deserialize;
use std::{path::PathBuf, time::Duration};
use toml::Spanned;

const HOUR: Duration = Duration::from_hours(1);

/// An authority lives a year, most of which must be left for its use.
const LONGEST_OVERLAP: Duration = Duration::from_hours(30 * 24);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaTable {
    ephemeral: Option<Spanned<bool>>,
    dir: Option<Spanned<PathBuf>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    overlap: Option<Spanned<String>>,
    leaf_key: Option<LeafKeyWord>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LeafKeyWord {
    Ecdsa,
    Rsa,
}

impl Reader<'_> {
    pub(super) fn ca(&mut self, table: CaTable, ca: &mut Ca) {
        if let Some(true) = table.ephemeral.as_ref().map(|word| *word.as_ref()) {
            let useless =
                [("dir", &table.dir), ("certificate", &table.certificate), ("key", &table.key)].into_iter();
            for (key, word) in useless.filter_map(|(key, word)| Some((key, word.as_ref()?))) {
                let message = format!("`{key}` has no meaning with `ephemeral = true`; remove one of them");
                self.findings.add(word.span(), message);
            }
        }
        ca.ephemeral = table.ephemeral.map_or(ca.ephemeral, Spanned::into_inner);
        self.absolute(table.dir, &mut ca.dir);
        if let (None, Some(key)) = (&table.certificate, &table.key) {
            self.findings
                .add(key.span(), "`key` without `certificate`; name the certificate that it signs for");
        }
        let key = self.file(table.key);
        ca.brought = self.file(table.certificate).map(|certificate| BroughtCa { certificate, key });
        if let Some(word) = &table.overlap {
            match hours_or_days(word.as_ref()) {
                Some(overlap) => ca.overlap = overlap,
                None => {
                    let message = format!(
                        "`{}` is no overlap; write whole hours or days from `1h` to `30d`",
                        word.as_ref()
                    );
                    self.findings.add(word.span(), message);
                }
            }
        }
        ca.leaf_key = match table.leaf_key {
            Some(LeafKeyWord::Ecdsa) => LeafKey::Ecdsa,
            Some(LeafKeyWord::Rsa) => LeafKey::Rsa,
            None => ca.leaf_key,
        };
    }

    /// An absolute path, if there is one.
    pub(super) fn file(&mut self, word: Option<Spanned<PathBuf>>) -> Option<PathBuf> {
        let word = word?;
        let mut path = PathBuf::new();
        self.absolute(Some(word), &mut path);
        Some(path)
    }
}

fn hours_or_days(text: &str) -> Option<Duration> {
    let (number, unit) = match (text.strip_suffix('h'), text.strip_suffix('d')) {
        (Some(number), _) => (number, HOUR),
        (None, Some(number)) => (number, 24 * HOUR),
        (None, None) => return None,
    };
    let number: u32 = number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?;
    let duration = unit.checked_mul(number)?;
    (HOUR..=LONGEST_OVERLAP).contains(&duration).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("1h", Some(1))]
    #[test_case("48h", Some(48))]
    #[test_case("2d", Some(48))]
    #[test_case("30d", Some(720))]
    #[test_case("31d", None; "too long")]
    #[test_case("0h", None; "nothing")]
    #[test_case("+1h", None; "sign")]
    #[test_case("1", None; "no unit")]
    #[test_case("1m", None; "minutes")]
    #[test_case("99999999999d", None; "overflow")]
    #[test_case("h", None; "no number")]
    fn overlaps_are_hours_or_days(text: &str, hours: Option<u64>) {
        assert_eq!(hours_or_days(text), hours.map(Duration::from_hours));
    }
}
