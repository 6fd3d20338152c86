//! Projects, as a program uses them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use samara_image::Mask;
use samara_project::{
    Applied, Class, ClassId, Edit, NewObject, ObjectId, PictureId, Project, ProjectError,
};
use tempfile::TempDir;

const SIDE: u32 = 12;

fn square(at: u32) -> NewObject {
    let at = at % (SIDE - 3);
    let mask = Mask::from_fn(SIDE, SIDE, |x, y| (at..at + 3).contains(&x) && y < 3);
    NewObject::new(mask.to_rle())
}

/// A project of pictures that are not read.
fn project(count: usize) -> (TempDir, Project, Vec<PictureId>) {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..count {
        std::fs::write(folder.path().join(format!("{index}.png")), [0]).unwrap();
    }
    let project = Project::open(folder.path()).unwrap();
    assert_eq!(project.scan().unwrap().new, count);
    let pictures: Vec<PictureId> = project.pictures().unwrap().iter().map(|p| p.id).collect();
    for picture in &pictures {
        project.identify(*picture, "a", SIDE, SIDE).unwrap();
    }
    (folder, project, pictures)
}

fn add(project: &Project, picture: PictureId, at: u32) -> Applied {
    let edit = Edit::Add(square(at));
    project.apply(picture, "me", &[edit], None).unwrap()
}

#[test]
fn what_was_done_is_there_when_it_is_opened_again() {
    let (folder, project, pictures) = project(2);
    let class = project.add_class("cat", "#ff0000").unwrap();
    let added = add(&project, pictures[0], 1);
    let id = added.objects[0].id;
    let mut cat = square(2);
    cat.class = Some(class);
    cat.attributes.insert("pose".into(), "lying".into());
    let edits = [Edit::Change(id, cat.clone()), Edit::Check(true)];
    project
        .apply(pictures[0], "you", &edits, Some(added.revision))
        .unwrap();
    // Two at once, as two windows.
    let other = Project::open(folder.path()).unwrap();
    drop(project);
    let objects = other.objects(pictures[0]).unwrap();
    assert_eq!(objects.len(), 1);
    assert_eq!((&objects[0].content, &*objects[0].author), (&cat, "me"));
    assert!(other.picture(pictures[0]).unwrap().checked);
    let history = other.history(pictures[0]).unwrap();
    let authors: Vec<&str> = history.iter().map(|action| &*action.author).collect();
    assert_eq!(authors, ["you", "me"]);
    let undone = other.undo(pictures[0], None).unwrap();
    assert_eq!(undone.objects[0].content, square(1));
    assert!(!undone.checked);
}

#[test]
fn an_edit_is_made_as_a_whole_or_not() {
    let (_folder, project, pictures) = project(1);
    let picture = pictures[0];
    let before = add(&project, picture, 1);
    let large = NewObject::new(Mask::new(SIDE + 1, SIDE).to_rle());
    let mut unknown = square(0);
    unknown.class = Some(ClassId(7));
    for wrong in [
        Edit::Add(large),
        Edit::Add(unknown),
        Edit::Remove(ObjectId(99)),
    ] {
        let edits = [Edit::Add(square(3)), wrong];
        project.apply(picture, "me", &edits, None).unwrap_err();
        assert_eq!(project.objects(picture).unwrap(), before.objects);
    }
    let late = project.apply(
        picture,
        "me",
        &[Edit::Check(true)],
        Some(before.revision - 1),
    );
    assert!(
        matches!(late, Err(ProjectError::Conflict { .. })),
        "{late:?}"
    );
    assert_eq!(project.history(picture).unwrap().len(), 1);
    let nothing = project.redo(picture, None).unwrap_err();
    assert_eq!(nothing.to_string(), "there is nothing to redo");
}

#[test]
fn objects_that_come_back_take_nobodys_place() {
    let (_folder, project, pictures) = project(2);
    let first = add(&project, pictures[0], 1).objects[0].id;
    project
        .apply(pictures[0], "me", &[Edit::Remove(first)], None)
        .unwrap();
    let second = add(&project, pictures[1], 2).objects[0].id;
    assert_ne!(first, second);
    assert_eq!(
        project.undo(pictures[0], None).unwrap().objects[0].id,
        first
    );
    assert_eq!(project.objects(pictures[1]).unwrap()[0].id, second);
    // An object of another picture is not there.
    let foreign = project.apply(pictures[0], "me", &[Edit::Remove(second)], None);
    let Err(ProjectError::Edit { index: 0, error }) = foreign else {
        panic!("{foreign:?}");
    };
    assert!(matches!(*error, ProjectError::UnknownObject(_)));
}

#[test]
fn masks_outlive_their_pictures() {
    let (folder, project, pictures) = project(2);
    add(&project, pictures[0], 1);
    std::fs::remove_file(folder.path().join("0.png")).unwrap();
    std::fs::write(folder.path().join("1.png"), [1, 2]).unwrap();
    std::fs::create_dir(folder.path().join("more")).unwrap();
    std::fs::write(folder.path().join("more/2.JPG"), [0]).unwrap();
    std::fs::write(folder.path().join("notes.txt"), [0]).unwrap();
    let scanned = project.scan().unwrap();
    assert_eq!((scanned.new, scanned.gone, scanned.written), (1, 1, 1));
    let gone = project.picture(pictures[0]).unwrap();
    assert!(gone.is_gone && gone.objects == 1);
    assert_eq!(project.pictures().unwrap()[2].path, "more/2.JPG");
    // It is back, and another one.
    std::fs::write(folder.path().join("0.png"), [9]).unwrap();
    project.scan().unwrap();
    let changed = project.identify(pictures[0], "b", SIDE, 9).unwrap();
    assert!(changed.is_changed && !changed.is_gone);
    assert_eq!((changed.width, changed.height), (SIDE, SIDE));
    assert!(
        !project
            .identify(pictures[0], "a", SIDE, SIDE)
            .unwrap()
            .is_changed
    );
    // A picture without masks is what it is.
    let other = project.identify(pictures[1], "b", 5, 6).unwrap();
    assert_eq!((other.width, other.height, other.is_changed), (5, 6, false));
}

#[test]
fn classes_have_names_of_their_own() {
    let (_folder, project, _) = project(0);
    let cat = project.add_class("cat", "#00ff00").unwrap();
    project.add_class("dog", "#0000ff").unwrap();
    for (name, colour) in [
        ("cat", "#000000"),
        ("", "#000000"),
        (" a", "#000000"),
        ("b", "red"),
    ] {
        project.add_class(name, colour).unwrap_err();
    }
    let mut classes = project.classes().unwrap();
    assert_eq!((classes.len(), classes[0].id), (2, cat));
    classes[0].name = "dog".into();
    assert!(matches!(
        project.change_class(&classes[0]),
        Err(ProjectError::SameName(_))
    ));
    classes[0].name = "lion".into();
    project.change_class(&classes[0]).unwrap();
    assert_eq!(project.classes().unwrap()[0].name, "lion");
}

#[test]
fn classes_go_and_come_back_with_what_had_them() {
    let (_folder, project, pictures) = project(1);
    let picture = pictures[0];
    let cat = project.add_class("cat", "#00ff00").unwrap();
    let mut object = square(1);
    object.class = Some(cat);
    project
        .apply(picture, "me", &[Edit::Add(object)], None)
        .unwrap();
    let used = project.remove_class(cat).unwrap_err();
    assert!(matches!(used, ProjectError::InUse { objects: 1, .. }));
    project.undo(picture, None).unwrap();
    project.remove_class(cat).unwrap();
    assert!(project.classes().unwrap().is_empty());
    assert!(matches!(
        project.remove_class(cat),
        Err(ProjectError::UnknownClass(_))
    ));
    let mut other = square(2);
    other.class = Some(cat);
    project
        .apply(picture, "me", &[Edit::Add(other)], None)
        .unwrap_err();
    // What is undone and done again has its class, under another name if somebody has taken its own.
    let taken = project.add_class("dog", "#0000ff").unwrap();
    project.change_class(&class(taken, "cat")).unwrap();
    let done = project.redo(picture, None).unwrap();
    assert_eq!(done.objects[0].content.class, Some(cat));
    let names: Vec<String> = project
        .classes()
        .unwrap()
        .into_iter()
        .map(|c| c.name)
        .collect();
    assert_eq!(names, ["cat'", "cat"]);
    // A name that was removed is that of the same class.
    project.undo(picture, None).unwrap();
    project.remove_class(cat).unwrap();
    assert_eq!(project.add_class("cat'", "#ffffff").unwrap(), cat);
    assert_eq!(project.classes().unwrap()[1].colour, "#ffffff");
}

fn class(id: ClassId, name: &str) -> Class {
    Class {
        id,
        name: name.into(),
        colour: "#123456".into(),
    }
}

#[test]
fn a_picture_says_what_is_on_it() {
    let (_folder, project, pictures) = project(2);
    let picture = pictures[0];
    let classes = ["a", "b", "c"].map(|name| project.add_class(name, "#000000").unwrap());
    let with = |class: Option<ClassId>, predicted_iou| {
        Edit::Add(NewObject {
            class,
            predicted_iou,
            ..square(1)
        })
    };
    let edits = [
        with(Some(classes[2]), Some(0.9)),
        with(Some(classes[0]), Some(0.3)),
        with(Some(classes[2]), None),
        with(None, Some(0.4)),
    ];
    let applied = project.apply(picture, "me", &edits, None).unwrap();
    let seen = project.picture(picture).unwrap();
    assert_eq!(seen.classes, [classes[0], classes[2]]);
    assert_eq!((seen.objects, seen.lowest_iou), (4, Some(0.3)));
    let other = project.picture(pictures[1]).unwrap();
    assert!(other.classes.is_empty() && other.lowest_iou.is_none());
    let opened = project.opened(picture).unwrap();
    assert_eq!(
        (&opened.picture, &opened.objects),
        (&seen, &applied.objects)
    );
    assert!(opened.can_undo && !opened.can_redo);
}

#[test]
fn steps_say_what_can_follow() {
    let (folder, project, pictures) = project(1);
    let picture = pictures[0];
    let other = Project::open(folder.path()).unwrap();
    let version = project.version().unwrap();
    let added = add(&project, picture, 1);
    assert!(added.can_undo && !added.can_redo);
    let late = project.undo(picture, Some(added.revision + 1));
    assert!(matches!(late, Err(ProjectError::Conflict { .. })));
    let undone = project.undo(picture, Some(added.revision)).unwrap();
    assert!(!undone.can_undo && undone.can_redo);
    let late = project.redo(picture, Some(added.revision));
    assert!(matches!(late, Err(ProjectError::Conflict { .. })));
    assert_eq!(project.version().unwrap(), version);
    other.redo(picture, Some(undone.revision)).unwrap();
    assert_ne!(project.version().unwrap(), version);
}

/// What a user does.
#[derive(Debug, Clone)]
enum Did {
    Add(u32),
    Change(usize, u32),
    Move(usize, i64),
    Remove(usize),
    Check(bool),
    Undo,
    Redo,
    Reopen,
}

fn did() -> impl Strategy<Value = Did> {
    prop_oneof![
        3 => any::<u32>().prop_map(Did::Add),
        2 => (0..9usize, any::<u32>()).prop_map(|(i, at)| Did::Change(i, at)),
        1 => (0..9usize, -3..9i64).prop_map(|(i, to)| Did::Move(i, to)),
        1 => (0..9usize).prop_map(Did::Remove),
        1 => any::<bool>().prop_map(Did::Check),
        3 => Just(Did::Undo),
        2 => Just(Did::Redo),
        1 => Just(Did::Reopen),
    ]
}

type Seen = (Vec<samara_project::Object>, bool);

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Undo and redo walk through exactly the states that were there.
    #[test]
    fn every_state_comes_back(actions in proptest::collection::vec(did(), 1..60)) {
        let (folder, mut project, pictures) = project(1);
        let picture = pictures[0];
        let mut states: Vec<Seen> = vec![(Vec::new(), false)];
        let mut now = 0;
        for action in actions {
            let id = |index: usize| {
                let objects = &states[now].0;
                (!objects.is_empty()).then(|| objects[index % objects.len()].id)
            };
            let edit = match action {
                Did::Add(at) => Some(Edit::Add(square(at))),
                Did::Change(index, at) => id(index).map(|id| Edit::Change(id, square(at))),
                Did::Move(index, to) => id(index).map(|id| Edit::Move(id, to)),
                Did::Remove(index) => id(index).map(Edit::Remove),
                Did::Check(is) => Some(Edit::Check(is)),
                Did::Undo => {
                    match project.undo(picture, None) {
                        Ok(_) => now -= 1,
                        Err(error) => prop_assert!(now == 0, "{}", error),
                    }
                    None
                }
                Did::Redo => {
                    match project.redo(picture, None) {
                        Ok(_) => now += 1,
                        Err(error) => prop_assert!(now + 1 == states.len(), "{}", error),
                    }
                    None
                }
                Did::Reopen => {
                    project = Project::open(folder.path()).unwrap();
                    None
                }
            };
            if let Some(edit) = edit {
                let applied = project.apply(picture, "me", &[edit], None).unwrap();
                states.truncate(now + 1);
                states.push((applied.objects, applied.checked));
                now += 1;
            }
            let seen = (project.objects(picture).unwrap(), project.picture(picture).unwrap().checked);
            prop_assert_eq!(&seen, &states[now]);
        }
    }
}

#[test]
fn what_could_not_be_read_again_is_refused() {
    let (_folder, project, pictures) = project(1);
    let id = add(&project, pictures[0], 1).objects[0].id;
    let nested = |depth: usize| {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        NewObject {
            prompt: Some(serde_json::from_str(&text).unwrap()),
            ..square(2)
        }
    };
    let apply = |edit| project.apply(pictures[0], "me", &[edit], None);
    apply(Edit::Change(id, nested(32))).unwrap();
    apply(Edit::Change(id, nested(33))).unwrap_err();
    for position in [i64::MAX, i64::MIN, (1 << 53) + 1] {
        apply(Edit::Move(id, position)).unwrap_err();
    }
    apply(Edit::Move(id, 1 << 53)).unwrap();
    add(&project, pictures[0], 3);
    for _ in 0..4 {
        project.undo(pictures[0], None).unwrap();
    }
    for name in ["a\nb", "\u{7}", &"n".repeat(201)] {
        let error = project.add_class(name, "#ffffff").unwrap_err().to_string();
        assert!(error.len() < 200 && !error.contains('\n'), "{error}");
    }
    project.add_class(&"n".repeat(200), "#ffffff").unwrap();
    // Nothing was opened there yet.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.png"), "").unwrap();
    let other = Project::open(folder.path()).unwrap();
    other.scan().unwrap();
    let picture = other.pictures().unwrap()[0].id;
    let nothing = NewObject::new(Mask::new(0, 0).to_rle());
    let added = other.apply(picture, "me", &[Edit::Add(nothing)], None);
    assert!(added.unwrap_err().to_string().contains("not opened yet"));
}

#[test]
fn history_keeps_what_has_changed() {
    let (folder, project, pictures) = project(1);
    let side = 400;
    project.identify(pictures[0], "b", side, side).unwrap();
    let noise = Mask::from_fn(side, side, |x, y| (x * 7 + y * 13) % 11 < 4);
    let edit = Edit::Add(NewObject::new(noise.to_rle()));
    let added = project.apply(pictures[0], "me", &[edit], None).unwrap();
    let bytes = || {
        folder
            .path()
            .join(samara_project::FILE_NAME)
            .metadata()
            .unwrap()
            .len()
    };
    let before = bytes();
    let moves: Vec<Edit> = (0..1000)
        .map(|i| Edit::Move(added.objects[0].id, i))
        .collect();
    project.apply(pictures[0], "me", &moves, None).unwrap();
    assert!(bytes() < before + 300_000, "{before} {}", bytes());
    let undone = project.undo(pictures[0], None).unwrap();
    assert_eq!(undone.objects, added.objects);
    // Without edits nothing happens.
    let nothing = project.apply(pictures[0], "me", &[], None).unwrap();
    assert_eq!(nothing.revision, undone.revision);
}

#[test]
fn a_picture_of_another_size_in_its_place_is_begun_anew() {
    let (_folder, project, pictures) = project(1);
    add(&project, pictures[0], 1);
    project.undo(pictures[0], None).unwrap();
    project.identify(pictures[0], "other", 5, 5).unwrap();
    let opened = project.opened(pictures[0]).unwrap();
    assert!(!opened.can_redo && !opened.can_undo);
}

#[cfg(unix)]
#[test]
fn folders_that_cannot_be_read_are_named_and_left_out() {
    let (folder, project, pictures) = project(1);
    std::fs::create_dir(folder.path().join("more")).unwrap();
    std::fs::write(folder.path().join("more/b.png"), "").unwrap();
    assert_eq!(project.scan().unwrap().new, 1);
    let locked = folder.path().join("more");
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0);
    let is_locked = std::fs::read_dir(&locked).is_err();
    let scanned = project.scan().unwrap();
    mode(0o755);
    if is_locked {
        assert_eq!(scanned.unreadable.len(), 1);
        assert!(scanned.unreadable[0].contains("more"), "{scanned:?}");
    }
    assert_eq!(
        (scanned.gone, project.pictures().unwrap().len()),
        (0, pictures.len() + 1)
    );
}

/// A project with a copy of it from before, and what a kill leaves of its journal: masks by their number.
fn killed() -> (TempDir, PictureId, std::path::PathBuf, Vec<u8>) {
    let (folder, project, pictures) = project(1);
    let picture = pictures[0];
    let noisy = |seed: u32| {
        let set = move |x, y| (x * 7 + y * 13 + x * y * seed) % 5 < 2;
        let mut object = NewObject::new(Mask::from_fn(SIDE, SIDE, set).to_rle());
        object.attributes.insert("word".into(), "long ".repeat(700));
        Edit::Add(object)
    };
    let draw = |seeds: std::ops::Range<u32>| {
        for seed in seeds {
            project.apply(picture, "me", &[noisy(seed)], None).unwrap();
        }
    };
    draw(0..1);
    let path = folder.path().join(samara_project::FILE_NAME);
    let old = folder.path().join("old");
    std::fs::copy(&path, &old).unwrap();
    draw(1..20);
    // What nobody has written to the file yet is in the journal.
    let writer = rusqlite::Connection::open(&path).unwrap();
    let more = "PRAGMA wal_autocheckpoint = 0;
        INSERT INTO object (picture, owner, position, author, area, is_keyframe, record)
        SELECT picture, owner, position + 100, author, area, is_keyframe, record FROM object LIMIT 10";
    writer.execute_batch(more).unwrap();
    let journal = std::fs::read(folder.path().join("samara.project-wal")).unwrap();
    assert!(!journal.is_empty());
    let last = std::fs::read(&path).unwrap();
    drop((writer, project));
    std::fs::write(&path, last).unwrap();
    (folder, picture, old, journal)
}

#[test]
fn a_journal_of_another_file_is_not_played() {
    let (folder, picture, old, journal) = killed();
    let path = folder.path().join(samara_project::FILE_NAME);
    let beside = |name: &str| folder.path().join(name);
    std::fs::write(beside("samara.project-wal"), &journal).unwrap();
    std::fs::copy(&old, &path).unwrap();
    for _ in 0..2 {
        let project = Project::open(folder.path()).unwrap();
        assert_eq!(project.objects(picture).unwrap().len(), 1);
    }
    assert_eq!(
        std::fs::read(beside("samara.project-wal.1")).unwrap(),
        journal
    );
    // A second one has another name.
    std::fs::write(beside("samara.project-wal"), &journal).unwrap();
    let project = Project::open(folder.path()).unwrap();
    add(&project, picture, 1);
    drop(project);
    assert_eq!(
        std::fs::read(beside("samara.project-wal.2")).unwrap(),
        journal
    );
    let project = Project::open(folder.path()).unwrap();
    assert_eq!(project.objects(picture).unwrap().len(), 2);
}

#[test]
fn a_copy_that_is_put_in_its_place_gets_no_journal_of_what_was_there() {
    let (folder, picture, old, journal) = killed();
    let path = folder.path().join(samara_project::FILE_NAME);
    let project = Project::open(folder.path()).unwrap();
    let before = project.objects(picture).unwrap().len();
    assert!(before > 1);
    let beside = folder.path().join("samara.project.new");
    std::fs::copy(&old, &beside).unwrap();
    std::fs::rename(beside, &path).unwrap();
    std::fs::write(folder.path().join("samara.project-wal"), &journal).unwrap();
    assert_eq!(project.objects(picture).unwrap().len(), 1);
    assert!(folder.path().join("samara.project-wal.1").is_file());
}

#[test]
fn what_a_kill_has_left_is_played() {
    let (folder, picture, _, journal) = killed();
    std::fs::write(folder.path().join("samara.project-wal"), &journal).unwrap();
    // Another program may have it open.
    let open = [0; 2].map(|_| Project::open(folder.path()).unwrap());
    for project in &open {
        assert_eq!(project.objects(picture).unwrap().len(), 30);
    }
    assert!(!folder.path().join("samara.project-wal.1").exists());
    // Where nothing is whole, nothing is moved.
    drop(open);
    let path = folder.path().join(samara_project::FILE_NAME);
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[4096..].fill(7);
    std::fs::write(&path, damaged).unwrap();
    std::fs::write(folder.path().join("samara.project-wal"), &journal).unwrap();
    let project = Project::open(folder.path());
    let failed = project.and_then(|project| project.objects(picture));
    assert!(
        matches!(failed, Err(ProjectError::File { .. })),
        "{failed:?}"
    );
    assert!(!folder.path().join("samara.project-wal.1").exists());
}

#[test]
fn a_folder_that_has_gone_is_told_of_by_a_scan() {
    let (folder, project, _) = project(1);
    let away = folder.path().with_extension("away");
    std::fs::rename(folder.path(), &away).unwrap();
    let error = project.scan().unwrap_err();
    assert!(matches!(error, ProjectError::File { .. }), "{error}");
    std::fs::rename(&away, folder.path()).unwrap();
    assert_eq!(project.scan().unwrap().gone, 0);
}
