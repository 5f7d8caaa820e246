//! All scenarios: those that come with this crate, and a user's own beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use traintrue_judge::rules;
use traintrue_protocol::nearest::hint;

use super::file::{PlannedFault, Scenario};
use super::places;
use super::read::ScenarioError;
use super::version::Pin;

static SHIPPED: Dir = include_dir!("$CARGO_MANIFEST_DIR/scenarios");

/// Scenarios in the order in which they are run and listed.
#[derive(Clone, Debug)]
pub struct Catalogue {
    scenarios: Vec<Scenario>,
    refused: Vec<Refused>,
}

/// A file that is no scenario. It stops itself alone: the other scenarios run.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The file's name without `.toml`: the id that its scenario would have.
    pub id: String,
    /// What is wrong, with file and line.
    pub problem: String,
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
    #[error("{path}:{line}: id: {id:?}, expected the file's own name, {expected:?}", path = .path.display())]
    FileName { path: PathBuf, line: usize, id: String, expected: String },
    #[error("{path}:{line}: id: {id:?} is also the id of {other}; ids are unique", path = .path.display(), other = .other.display())]
    Clash { path: PathBuf, line: usize, id: String, other: PathBuf },
    #[error("{path}:{line}: faults: {id:?} is also a fault of {other}; the ids of faults are unique", path = .path.display())]
    FaultClash { path: PathBuf, line: usize, id: String, other: String },
    #[error("{path}:{line}: {field}: no invariant is called {name:?}{hint}", path = .path.display())]
    UnknownInvariant { path: PathBuf, line: usize, field: String, name: String, hint: String },
    #[error("no scenario's id begins with {filter:?}{hint}")]
    NoMatch { filter: String, hint: String },
}

/// A scenario and where it was read, until the set is checked.
struct Found {
    path: PathBuf,
    text: String,
    scenario: Scenario,
}

/// What was read so far, by which the next file is checked.
#[derive(Default)]
struct Known {
    /// The file of each scenario's id.
    ids: BTreeMap<String, PathBuf>,
    /// The scenario of each fault's id.
    faults: BTreeMap<String, String>,
}

impl Catalogue {
    /// The scenarios that come with this crate, and those of each folder of `own` beside them. A file of `own` that is no
    /// scenario is [`refused`](Self::refused). Fails where a folder cannot be read or has no scenario in it.
    pub fn load<'a>(own: impl IntoIterator<Item = &'a Path>) -> Result<Self, CatalogueError> {
        let mut known = Known::default();
        let mut found = shipped()?;
        found.iter().try_for_each(|one| known.take(one))?;
        let mut refused = Vec::new();
        for path in folders(own)? {
            match read(&path).and_then(|one| known.take(&one).map(|()| one)) {
                Ok(one) => found.push(one),
                Err(error) => {
                    let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    refused.push(Refused { id, problem: error.to_string() });
                }
            }
        }
        if found.is_empty() {
            return Err(CatalogueError::Empty { path: PathBuf::from("scenarios") });
        }
        found.sort_by(|a, b| (a.scenario.order, &a.scenario.id).cmp(&(b.scenario.order, &b.scenario.id)));
        Ok(Self { scenarios: found.into_iter().map(|one| one.scenario).collect(), refused })
    }

    /// The files that are no scenarios, of those whose names begin with one of `filters`, or of all where there is none.
    pub fn refused<'a>(&'a self, filters: &'a [String]) -> impl Iterator<Item = &'a Refused> {
        self.refused.iter().filter(move |refused| chosen(filters, &refused.id))
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

    /// Whether there is a scenario with this id, or a file of this name that is refused.
    pub fn has_file_of(&self, id: &str) -> bool {
        self.find(id).is_some() || self.refused.iter().any(|refused| refused.id == id)
    }

    /// Every planned fault, with its scenario.
    pub fn faults(&self) -> impl Iterator<Item = (&Scenario, &PlannedFault)> {
        self.scenarios.iter().flat_map(|scenario| scenario.faults.iter().map(move |fault| (scenario, fault)))
    }

    /// The scenarios whose ids begin with one of `filters`, or all where there is none. A filter that chooses nothing, not
    /// even a file that is refused, is an error: an empty set must not pass.
    pub fn select(&self, filters: &[String]) -> Result<Vec<&Scenario>, CatalogueError> {
        for filter in filters {
            let refused = self.refused.iter().map(|refused| refused.id.as_str());
            let mut ids = self.scenarios.iter().map(|scenario| scenario.id.as_str()).chain(refused);
            if !ids.any(|id| id.starts_with(filter)) {
                let hint = match is_scenario(Path::new(filter)) {
                    true => "; --scenarios DIR reads your own from their folder".to_owned(),
                    false => hint(filter, self.scenarios.iter().map(|scenario| scenario.id.as_str())),
                };
                return Err(CatalogueError::NoMatch { filter: filter.clone(), hint });
            }
        }
        Ok(self.scenarios.iter().filter(|scenario| chosen(filters, &scenario.id)).collect())
    }
}

fn chosen(filters: &[String], id: &str) -> bool {
    filters.is_empty() || filters.iter().any(|filter| id.starts_with(filter))
}

fn is_scenario(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

fn shipped() -> Result<Vec<Found>, CatalogueError> {
    let files = SHIPPED.files().filter(|file| is_scenario(file.path()));
    files.map(|file| parse(&Path::new("scenarios").join(file.path()), file.contents())).collect()
}

/// The scenario files of each folder, in order of their names.
fn folders<'a>(own: impl IntoIterator<Item = &'a Path>) -> Result<Vec<PathBuf>, CatalogueError> {
    let mut found = Vec::new();
    for folder in own {
        let failed = |source| CatalogueError::Folder { path: folder.to_owned(), source };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            paths.push(entry.map_err(failed)?.path());
        }
        paths.retain(|path| is_scenario(path));
        if paths.is_empty() {
            return Err(CatalogueError::Empty { path: folder.to_owned() });
        }
        paths.sort();
        found.extend(paths);
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Found, CatalogueError> {
    let bytes =
        std::fs::read(path).map_err(|source| CatalogueError::Folder { path: path.to_owned(), source })?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Found, CatalogueError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
        ScenarioError::Toml { path: path.to_owned(), line, message: "the line is not UTF-8".into() }
    })?;
    let scenario = Scenario::parse(path, text)?;
    let expected = path.file_stem().unwrap_or_default().to_string_lossy();
    let (path, line) = (path.to_owned(), places::line(text, "id", None));
    if scenario.id != expected {
        let (id, expected) = (scenario.id, expected.into_owned());
        return Err(CatalogueError::FileName { path, line, id, expected });
    }
    Ok(Found { path, text: text.to_owned(), scenario })
}

impl Known {
    /// Checks a scenario against those before it, and adds it to them.
    fn take(&mut self, one: &Found) -> Result<(), CatalogueError> {
        let Found { path, text, scenario } = one;
        check_invariants(one)?;
        let (path, id) = (path.clone(), scenario.id.clone());
        if let Some(other) = self.ids.get(&id) {
            let (line, other) = (places::line(text, "id", None), other.clone());
            return Err(CatalogueError::Clash { path, line, id, other });
        }
        let mut faults = self.faults.clone();
        for fault in &scenario.faults {
            if let Some(other) = faults.insert(fault.id.clone(), id.clone()) {
                let (line, id) = (places::line(text, "faults", Some(&fault.id)), fault.id.clone());
                return Err(CatalogueError::FaultClash { path, line, id, other });
            }
        }
        self.faults = faults;
        self.ids.insert(id, path);
        Ok(())
    }
}

/// A misspelt invariant would never break and never hold.
fn check_invariants(Found { path, text, scenario }: &Found) -> Result<(), CatalogueError> {
    let asked = scenario.expectations.iter().map(|it| ("holds", "holds".to_owned(), &it.invariant));
    let faults = scenario.faults.iter().flat_map(|fault| {
        let field = format!("faults.{}", fault.id);
        fault.must.iter().chain(&fault.may).map(move |name| ("faults", field.clone(), name))
    });
    for (key, field, name) in asked.chain(faults) {
        if rules::find(name).is_none() {
            let hint = hint(name, rules::RULES.iter().map(|rule| rule.name));
            let (path, line, name) = (path.clone(), places::line(text, key, Some(name)), name.clone());
            return Err(CatalogueError::UnknownInvariant { path, line, field, name, hint });
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
        let catalogue = Catalogue::load(Some(folder.path())).map_err(|error| error.to_string())?;
        let refused = catalogue.refused(&[]).map(|refused| refused.problem.replace(&shown, "")).next();
        refused.map_or(Ok(catalogue), Err)
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
        "mine.toml:3: id: \"determinism\", expected the file's own name, \"mine\""
    )]
    #[case::fault_of_another(
        "my-fault",
        "unseeded-order",
        "mine.toml:86: faults: \"unseeded-order\" is also a fault of determinism; the ids of faults are unique"
    )]
    #[case::misspelt(
        "\"determinism/repeat\"",
        "\"determinism/repat\"",
        "mine.toml:81: holds: no invariant is called \"determinism/repat\"; nearest: determinism/repeat"
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
    fn a_file_that_is_no_scenario_stops_itself_alone() {
        let folder = folder(|text| text);
        for (name, text) in
            [("bad.toml", "schema = 1\nid = \"bad\"\ntitel = \"t\"\n"), ("worse.toml", "schema = \n")]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let catalogue = Catalogue::load(Some(folder.path())).unwrap();
        assert!(catalogue.find("mine").is_some() && catalogue.find("determinism").is_some());
        let refused = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
            assert!(catalogue.select(&filters).is_ok());
            catalogue.refused(&filters).map(|refused| refused.problem.clone()).collect::<Vec<_>>()
        };
        let path = |name: &str| folder.path().join(name).display().to_string();
        let [bad, worse] = &refused(&[])[..] else { panic!("two files are no scenarios") };
        assert!(bad.starts_with(&format!("{}:3: unknown field `titel`", path("bad.toml"))), "{bad}");
        assert!(worse.starts_with(&format!("{}:1: ", path("worse.toml"))), "{worse}");
        assert_eq!((refused(&["min"]).len(), refused(&["wor"]).len()), (0, 1));
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
