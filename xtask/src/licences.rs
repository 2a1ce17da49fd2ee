//! Which licences and which packages the dependency tree may hold; the lists are those of `deny.toml`.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::metadata::{Metadata, Package};
use crate::shell;

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    name: String,
}

/// Every package whose licence does not suffice or that is banned.
pub(crate) fn check(metadata: &Metadata) -> Result<Vec<String>> {
    let path = shell::root().join("deny.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let deny: Deny = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let banned: Vec<String> = deny.bans.deny.into_iter().map(|b| b.name).collect();
    let foreign = metadata.packages.iter().filter(|p| p.source.is_some());
    Ok(foreign.filter_map(|package| fault(package, &deny.licenses.allow, &banned)).collect())
}

fn fault(package: &Package, allowed: &[String], banned: &[String]) -> Option<String> {
    let Package { name, version, license, .. } = package;
    if banned.contains(name) {
        return Some(format!("{name} {version}: is banned (deny.toml); find a way without it"));
    }
    match license {
        None => Some(format!("{name} {version}: expected a licence, found none")),
        Some(expression) if suffices(expression, allowed) => None,
        Some(expression) => {
            Some(format!("{name} {version}: expected a licence that deny.toml allows, found {expression}"))
        }
    }
}

/// Whether an SPDX expression can be met with the allowed licences alone. `/` is an old way to write `OR`.
fn suffices(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any_of(&words, &mut at, allowed) && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all_of(words, at, allowed);
    }
    met
}

fn all_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(&word) = words.get(*at) else { return false };
    *at += 1;
    if word == "(" {
        let met = any_of(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += usize::from(closed);
        return met && closed;
    }
    let mut licence = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{word} WITH {}", words.get(*at + 1).copied().unwrap_or_default());
        *at += 2;
    }
    allowed.contains(&licence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_as_spdx_says() {
        let allowed =
            ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(String::from);
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "GPL-3.0 AND BSD-4-Clause OR MIT",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(suffices(good, &allowed), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND GPL-3.0",
            "MIT WITH x",
            "(MIT",
            "MIT MIT",
        ] {
            assert!(!suffices(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn a_package_without_a_good_licence_or_on_the_list_is_named() {
        let package = |name: &str, license: Option<&str>| Package {
            name: name.into(),
            license: license.map(Into::into),
            ..Package::default()
        };
        let (allowed, banned) = (["MIT".to_owned()], ["ureq".to_owned()]);
        let fault = |p: Package| super::fault(&p, &allowed, &banned);
        assert_eq!(fault(package("fine", Some("MIT"))), None);
        assert!(fault(package("ureq", Some("MIT"))).unwrap().contains("banned"));
        assert!(fault(package("closed", None)).unwrap().contains("closed"));
        assert!(fault(package("copyleft", Some("GPL-3.0"))).unwrap().contains("GPL-3.0"));
    }
}
