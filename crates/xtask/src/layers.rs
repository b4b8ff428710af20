//! The layers of the workspace, held against what `cargo metadata` says.
//!
//! ```text
//! L4  seedfarm
//! L3  gateway  coordinator  worker      never import one another
//! L2  proto  blob  runtime  picture  store  engine
//! L1  core  numerics                    no IO, no async
//! ```

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::process::{cargo, output};

const PREFIX: &str = "seedfarm-";

/// Each crate and the crates of this workspace that it may name in its manifest.
const ALLOWED: [(&str, &[&str]); 14] = [
    ("core", &[]),
    ("numerics", &[]),
    ("proto", &["core"]),
    ("blob", &["core"]),
    ("runtime", &[]),
    ("picture", &["core"]),
    ("store", &["core"]),
    ("engine", &["core", "numerics", "picture"]),
    ("gateway", &["core", "proto", "blob", "runtime", "picture"]),
    ("coordinator", &["core", "proto", "blob", "runtime", "picture", "store"]),
    ("worker", &["core", "proto", "blob", "runtime", "picture", "engine"]),
    ("seedfarm", EVERYTHING),
    ("tests", EVERYTHING),
    ("xtask", &[]),
];

const EVERYTHING: &[&str] = &[
    "core",
    "numerics",
    "proto",
    "blob",
    "runtime",
    "picture",
    "store",
    "engine",
    "gateway",
    "coordinator",
    "worker",
];

/// A package from elsewhere and the only crates that may reach it, directly or not.
const REACH: [(&str, &[&str]); 5] = [
    ("candle-core", &["engine", "worker", "seedfarm", "tests"]),
    ("sqlx", &["store", "coordinator", "seedfarm", "tests"]),
    ("redis", &["store", "coordinator", "seedfarm", "tests"]),
    ("tokio", NOT_BELOW),
    ("tonic", NOT_BELOW),
];

/// All crates but those of the lowest layer, and `xtask`, which is to compile quickly.
const NOT_BELOW: &[&str] =
    &["proto", "blob", "runtime", "store", "gateway", "coordinator", "worker", "seedfarm", "tests"];

/// Who depends on whom, by package name.
#[derive(Default)]
struct Graph {
    /// What each crate of this workspace names in its manifest, tests included.
    members: BTreeMap<String, BTreeSet<String>>,
    /// What each package links: no dependencies of tests alone.
    links: BTreeMap<String, BTreeSet<String>>,
}

/// Checks the workspace.
///
/// # Errors
/// Every rule that is broken, one a line.
pub fn run() -> anyhow::Result<()> {
    let version = output(std::process::Command::new("rustc").arg("-vV"))?;
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let metadata = cargo(&["metadata", "--format-version", "1", "--filter-platform", host]);
    let metadata = serde_json::from_str(&output(&mut { metadata })?)?;
    let graph = read(&metadata).context("cargo metadata has an unknown form")?;
    let faults = faults(&graph);
    if !faults.is_empty() {
        bail!("the layers are broken:\n  {}", faults.join("\n  "));
    }
    eprintln!("{} crates keep to their layers", graph.members.len());
    Ok(())
}

/// The name without the prefix that all but the executable bear.
fn short(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

fn read(metadata: &Value) -> Option<Graph> {
    let mut graph = Graph::default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array()?.iter().filter_map(Value::as_str).collect();
    let mut names = BTreeMap::new();
    for package in metadata["packages"].as_array()? {
        let name = text(&package["name"])?;
        let id = package["id"].as_str()?;
        if members.contains(id) {
            let named = package["dependencies"].as_array()?.iter();
            let named = named.filter_map(|dependency| text(&dependency["name"]));
            graph.members.insert(name.clone(), named.collect());
        }
        names.insert(id, name);
    }
    for node in metadata["resolve"]["nodes"].as_array()? {
        let name = names.get(node["id"].as_str()?)?;
        let links = graph.links.entry(name.clone()).or_default();
        for dependency in node["deps"].as_array()? {
            let kinds = dependency["dep_kinds"].as_array()?;
            if kinds.iter().any(|kind| kind["kind"] != "dev") {
                links.insert(names.get(dependency["pkg"].as_str()?)?.clone());
            }
        }
    }
    Some(graph)
}

fn faults(graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, named) in &graph.members {
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == short(name)) else {
            faults.push(format!("{name} has no place in the table of crates/xtask/src/layers.rs"));
            continue;
        };
        for dependency in named.iter().filter(|other| graph.members.contains_key(*other)) {
            if !allowed.contains(&short(dependency)) {
                faults.push(format!("{name} must not depend on {dependency}"));
            }
        }
        for (package, may) in REACH {
            if !may.contains(&short(name))
                && let Some(way) = way(graph, name, package)
            {
                faults.push(format!("{name} must not reach {package}: {}", way.join(" -> ")));
            }
        }
    }
    faults
}

/// A chain of packages from one to another.
fn way(graph: &Graph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut seen = BTreeSet::from([from.to_owned()]);
    let mut waiting = vec![vec![from.to_owned()]];
    while let Some(chain) = waiting.pop() {
        let last = chain.last()?;
        if last == to {
            return Some(chain);
        }
        for next in graph.links.get(last).into_iter().flatten() {
            if seen.insert(next.clone()) {
                let mut longer = chain.clone();
                longer.push(next.clone());
                waiting.push(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(members: &[(&str, &[&str])], others: &[(&str, &[&str])]) -> Graph {
        let table = |rows: &[(&str, &[&str])]| -> BTreeMap<String, BTreeSet<String>> {
            let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            rows.iter().map(|(name, links)| ((*name).to_owned(), own(links))).collect()
        };
        let members = table(members);
        let mut links = members.clone();
        links.extend(table(others));
        Graph { members, links }
    }

    #[test]
    fn a_sibling_and_an_unknown_crate_are_refused() {
        let faults = faults(&graph(
            &[
                ("seedfarm-core", &[]),
                ("seedfarm-worker", &["seedfarm-core", "seedfarm-gateway"]),
                ("seedfarm-gateway", &["seedfarm-core"]),
                ("seedfarm-extra", &[]),
            ],
            &[],
        ));
        assert_eq!(
            faults,
            [
                "seedfarm-extra has no place in the table of crates/xtask/src/layers.rs",
                "seedfarm-worker must not depend on seedfarm-gateway",
            ]
        );
    }

    #[test]
    fn a_forbidden_package_is_found_however_far_away() {
        let faults = faults(&graph(
            &[("seedfarm-core", &["harmless"]), ("seedfarm-engine", &["candle-core"])],
            &[("harmless", &["middle"]), ("middle", &["tokio"]), ("candle-core", &[])],
        ));
        assert_eq!(
            faults,
            ["seedfarm-core must not reach tokio: seedfarm-core -> harmless -> middle -> tokio"]
        );
    }

    #[test]
    fn dependencies_of_tests_alone_are_not_links() {
        let metadata = serde_json::json!({
            "workspace_members": ["a"],
            "packages": [
                {"id": "a", "name": "seedfarm-core", "dependencies": [{"name": "tokio"}]},
                {"id": "t", "name": "tokio", "dependencies": []},
            ],
            "resolve": {"nodes": [
                {"id": "a", "deps": [{"pkg": "t", "dep_kinds": [{"kind": "dev"}]}]},
                {"id": "t", "deps": []},
            ]},
        });
        assert!(faults(&read(&metadata).expect("understood")).is_empty());
    }
}
