//! Damages a file of the newest checkpoint, as a bad disk or an unlucky copy does.

use std::fs;
use std::path::Path;

use traintrue_protocol::trace::event::Checkpoint;

use crate::scenario::{Damage, DamageKind};

/// Does it to a file below `checkpoints`, the folder of the run: no other is touched, whatever a trace names. Fails with
/// what stands in the way.
pub fn damage(newest: Option<&Checkpoint>, damage: &Damage, checkpoints: &Path) -> Result<(), String> {
    let newest = newest.ok_or("the trace names no saved checkpoint to damage")?;
    let path = Path::new(&newest.path).join(&damage.file);
    let failed = |error| format!("{}: cannot be damaged: {error}", path.display());
    let below = path.canonicalize().and_then(|path| Ok(path.starts_with(checkpoints.canonicalize()?)));
    if !below.map_err(failed)? {
        return Err(format!("{}: is not in {}, where the plan saves", path.display(), checkpoints.display()));
    }
    if damage.how == DamageKind::Remove {
        return fs::remove_file(&path).map_err(failed);
    }
    let mut bytes = fs::read(&path).map_err(failed)?;
    match damage.how {
        DamageKind::FlipBit => {
            let at = (bytes.len() - bytes.len() / 8).checked_sub(1);
            *at.and_then(|at| bytes.get_mut(at)).ok_or_else(|| format!("{}: is empty", path.display()))? ^= 1;
        }
        _ => bytes.truncate(bytes.len() / 2),
    }
    fs::write(&path, bytes).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use traintrue_protocol::trace::event::CheckpointEdge;

    fn checkpoint(path: &Path) -> Checkpoint {
        let path = path.display().to_string();
        Checkpoint::new(CheckpointEdge::Saved, 1, (0, 8), path)
    }

    #[rstest]
    #[case(DamageKind::FlipBit, Some(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]))]
    #[case(DamageKind::Truncate, Some(vec![0; 8]))]
    #[case(DamageKind::Remove, None)]
    fn each_kind_does_what_it_says(#[case] how: DamageKind, #[case] left: Option<Vec<u8>>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model");
        fs::write(&file, [0; 16]).unwrap();
        let wanted = Damage { file: "model".into(), how };
        damage(Some(&checkpoint(folder.path())), &wanted, folder.path()).unwrap();
        assert_eq!(fs::read(&file).ok(), left);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = Damage { file: "model".into(), how: DamageKind::Remove };
        let problem = damage(Some(&checkpoint(folder.path())), &wanted, folder.path()).unwrap_err();
        assert!(problem.contains("model: cannot be damaged: No such file"), "{problem}");
        assert!(damage(None, &wanted, folder.path()).unwrap_err().contains("no saved checkpoint"));
    }

    #[test]
    fn an_empty_file_and_one_of_another_folder_are_left_alone() {
        let [folder, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let wanted = Damage { file: "model".into(), how: DamageKind::FlipBit };
        fs::write(folder.path().join("model"), []).unwrap();
        let problem = |run: &Path| damage(Some(&checkpoint(folder.path())), &wanted, run).unwrap_err();
        assert!(problem(folder.path()).ends_with("model: is empty"));
        assert!(problem(other.path()).contains("model: is not in "));
    }
}
