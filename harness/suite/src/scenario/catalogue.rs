//! All scenarios: those that come with this crate, and a user's own beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use traintrue_judge::rules;
use traintrue_protocol::nearest::hint;

use super::file::{PlannedFault, Scenario};
use super::read::ScenarioError;
use super::version::Pin;

static SHIPPED: Dir = include_dir!("$CARGO_MANIFEST_DIR/scenarios");

/// Scenarios in the order in which they are run and listed.
#[derive(Clone, Debug)]
pub struct Catalogue {
    scenarios: Vec<Scenario>,
}

/// Scenarios that do not make a catalogue, or a choice that is not in it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CatalogueError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("{path}: cannot read the scenarios: {source}", path = .path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("{path}: no scenario here; a scenario is a file that ends in .toml", path = .path.display())]
    Empty { path: PathBuf },
    #[error("{path}: id: {id:?}, expected the file's own name, {expected:?}", path = .path.display())]
    FileName { path: PathBuf, id: String, expected: String },
    #[error("{path}: id: {id:?} is also the id of {other}; ids are unique", path = .path.display(), other = .other.display())]
    Clash { path: PathBuf, id: String, other: PathBuf },
    #[error("{path}: faults: {id:?} is also a fault of {other}; the ids of faults are unique", path = .path.display())]
    FaultClash { path: PathBuf, id: String, other: String },
    #[error("{path}: {field}: no invariant is called {name:?}{hint}", path = .path.display())]
    UnknownInvariant { path: PathBuf, field: String, name: String, hint: String },
    #[error("no scenario's id begins with {filter:?}{hint}")]
    NoMatch { filter: String, hint: String },
}

/// A scenario and where it was read, until the set is checked.
struct Found {
    path: PathBuf,
    scenario: Scenario,
}

impl Catalogue {
    /// The scenarios that come with this crate, and those of each folder of `own` beside them.
    pub fn load<'a>(own: impl IntoIterator<Item = &'a Path>) -> Result<Self, CatalogueError> {
        let mut found = shipped()?;
        for folder in own {
            found.extend(folder_of(folder)?);
        }
        Self::of(found)
    }

    fn of(mut found: Vec<Found>) -> Result<Self, CatalogueError> {
        if found.is_empty() {
            return Err(CatalogueError::Empty { path: PathBuf::from("scenarios") });
        }
        check_names(&found)?;
        for one in &found {
            check_invariants(one)?;
        }
        found.sort_by(|a, b| (a.scenario.order, &a.scenario.id).cmp(&(b.scenario.order, &b.scenario.id)));
        Ok(Self { scenarios: found.into_iter().map(|one| one.scenario).collect() })
    }

    /// This catalogue without the scenarios that are newer than `pin`, and the ids of those.
    pub fn pinned(mut self, pin: &Pin) -> (Self, Vec<String>) {
        let newer = self.scenarios.extract_if(.., |scenario| !pin.admits(&scenario.since));
        let newer = newer.map(|scenario| scenario.id).collect();
        (self, newer)
    }

    /// Every scenario.
    pub fn all(&self) -> &[Scenario] {
        &self.scenarios
    }

    /// The scenario with this id.
    pub fn find(&self, id: &str) -> Option<&Scenario> {
        self.scenarios.iter().find(|scenario| scenario.id == id)
    }

    /// Every planned fault, with its scenario.
    pub fn faults(&self) -> impl Iterator<Item = (&Scenario, &PlannedFault)> {
        self.scenarios.iter().flat_map(|scenario| scenario.faults.iter().map(move |fault| (scenario, fault)))
    }

    /// The scenarios whose ids begin with one of `filters`, or all where there is none. A filter that chooses nothing is an
    /// error: an empty set must not pass.
    pub fn select(&self, filters: &[String]) -> Result<Vec<&Scenario>, CatalogueError> {
        for filter in filters {
            if !self.scenarios.iter().any(|scenario| scenario.id.starts_with(filter)) {
                let hint = hint(filter, self.scenarios.iter().map(|scenario| scenario.id.as_str()));
                return Err(CatalogueError::NoMatch { filter: filter.clone(), hint });
            }
        }
        let chosen = |scenario: &&Scenario| {
            filters.is_empty() || filters.iter().any(|filter| scenario.id.starts_with(filter))
        };
        Ok(self.scenarios.iter().filter(chosen).collect())
    }
}

fn shipped() -> Result<Vec<Found>, CatalogueError> {
    let is_scenario = |path: &Path| path.extension().is_some_and(|extension| extension == "toml");
    let mut found = Vec::new();
    for file in SHIPPED.files().filter(|file| is_scenario(file.path())) {
        let path = Path::new("scenarios").join(file.path());
        found.push(parse(&path, file.contents())?);
    }
    Ok(found)
}

fn folder_of(folder: &Path) -> Result<Vec<Found>, CatalogueError> {
    let at = |path: &Path, source| CatalogueError::Folder { path: path.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| at(folder, source))? {
        let path = entry.map_err(|source| at(folder, source))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(CatalogueError::Empty { path: folder.to_owned() });
    }
    paths.iter().map(|path| parse(path, &std::fs::read(path).map_err(|source| at(path, source))?)).collect()
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Found, CatalogueError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
        ScenarioError::Toml { path: path.to_owned(), line, message: "the line is not UTF-8".into() }
    })?;
    let scenario = Scenario::parse(path, text)?;
    let expected = path.file_stem().unwrap_or_default().to_string_lossy();
    if scenario.id != expected {
        let (path, id, expected) = (path.to_owned(), scenario.id, expected.into_owned());
        return Err(CatalogueError::FileName { path, id, expected });
    }
    Ok(Found { path: path.to_owned(), scenario })
}

fn check_names(found: &[Found]) -> Result<(), CatalogueError> {
    let mut ids = BTreeMap::new();
    let mut faults = BTreeMap::new();
    for Found { path, scenario } in found {
        let id = &scenario.id;
        if let Some(other) = ids.insert(id, path) {
            return Err(CatalogueError::Clash { path: path.clone(), id: id.clone(), other: other.clone() });
        }
        for fault in &scenario.faults {
            if let Some(other) = faults.insert(&fault.id, id) {
                let (id, other) = (fault.id.clone(), other.clone());
                return Err(CatalogueError::FaultClash { path: path.clone(), id, other });
            }
        }
    }
    Ok(())
}

/// A misspelt invariant would never break and never hold.
fn check_invariants(Found { path, scenario }: &Found) -> Result<(), CatalogueError> {
    let asked = scenario.expectations.iter().map(|it| ("holds".to_owned(), &it.invariant));
    let faults = scenario.faults.iter().flat_map(|fault| {
        let field = format!("faults.{}", fault.id);
        fault.must.iter().chain(&fault.may).map(move |name| (field.clone(), name))
    });
    for (field, name) in asked.chain(faults) {
        if rules::find(name).is_none() {
            let hint = hint(name, rules::RULES.iter().map(|rule| rule.name));
            let (path, name) = (path.clone(), name.clone());
            return Err(CatalogueError::UnknownInvariant { path, field, name, hint });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Version;
    use rstest::rstest;

    /// A folder with one scenario, `mine`, made from the smallest shipped one.
    fn folder(change: impl Fn(String) -> String) -> tempfile::TempDir {
        let text = SHIPPED.get_file("determinism.toml").unwrap().contents_utf8().unwrap();
        let text = text
            .replace("id = \"determinism\"", "id = \"mine\"")
            .replace("unseeded-order", "my-fault")
            .replace("drawn-with-replacement", "my-other-fault")
            .replace("unordered-sums", "my-noise");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.toml"), change(text)).unwrap();
        folder
    }

    fn load(change: impl Fn(String) -> String) -> Result<Catalogue, String> {
        let folder = folder(change);
        let shown = format!("{}/", folder.path().display());
        Catalogue::load(Some(folder.path())).map_err(|error| error.to_string().replace(&shown, ""))
    }

    #[test]
    fn ones_own_scenarios_stand_beside_the_shipped_ones() {
        let catalogue = load(|text| text).unwrap();
        assert!(catalogue.find("mine").is_some() && catalogue.find("determinism").is_some());
        let chosen = catalogue.select(&["min".into()]).unwrap();
        assert_eq!(chosen.iter().map(|scenario| scenario.id.as_str()).collect::<Vec<_>>(), ["mine"]);
        assert_eq!(catalogue.select(&[]).unwrap().len(), catalogue.all().len());
    }

    #[test]
    fn a_filter_that_chooses_nothing_is_an_error_with_the_nearest_names() {
        let error = Catalogue::load(None).unwrap().select(&["determinsm".into()]).unwrap_err();
        let error = error.to_string();
        let expected = "no scenario's id begins with \"determinsm\"; nearest: determinism";
        assert!(error.starts_with(expected), "{error}");
    }

    #[rstest]
    #[case::id_of_another(
        "id = \"mine\"",
        "id = \"determinism\"",
        "mine.toml: id: \"determinism\", expected the file's own name, \"mine\""
    )]
    #[case::fault_of_another(
        "my-fault",
        "unseeded-order",
        "mine.toml: faults: \"unseeded-order\" is also a fault of determinism; the ids of faults are unique"
    )]
    #[case::misspelt(
        "\"determinism/repeat\"",
        "\"determinism/repat\"",
        "mine.toml: holds: no invariant is called \"determinism/repat\"; nearest: determinism/repeat"
    )]
    #[case::unknown_key("class =", "clas =", "mine.toml:6: unknown field `clas`")]
    fn a_catalogue_with_a_mistake_is_one_clear_error(
        #[case] from: &str,
        #[case] to: &str,
        #[case] message: &str,
    ) {
        let error = load(|text| text.replace(from, to)).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }

    #[test]
    fn a_pin_leaves_out_what_is_newer() {
        let newer = |text: String| text.replace("order = 110", "since = \"0.2.0\"");
        let (pinned, left_out) = load(newer).unwrap().pinned(&"0.1".parse().unwrap());
        assert_eq!((left_out, pinned.find("mine")), (vec!["mine".to_owned()], None));
        let (pinned, left_out) = load(newer).unwrap().pinned(&"0.2".parse().unwrap());
        assert!(left_out.is_empty() && pinned.find("mine").is_some());
    }

    #[test]
    fn no_shipped_scenario_is_of_a_release_to_come() {
        let catalogue = Catalogue::load(None).unwrap();
        assert!(catalogue.all().iter().all(|scenario| scenario.since <= Version::own().unwrap()));
    }

    #[test]
    fn an_empty_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = Catalogue::load(Some(folder.path())).unwrap_err();
        assert!(matches!(error, CatalogueError::Empty { .. }), "{error}");
    }
}
