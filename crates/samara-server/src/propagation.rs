//! Objects of the project's videos, followed from frame to frame.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use samara::{Direction, FrameMasks, Mask, Prompt, RgbImage, VideoOptions, VideoSession};
use samara_image::FrameSource;
use samara_project::{
    ActionId, ClassId, Edit, NewObject, Object, PictureId, Placed, Project, Track, TrackId,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::error::{Problem, Result};
use crate::frame_reader::frame_of;
use crate::models::LoadedModel;
use crate::owner::{Pause, Urgency};
use crate::project::OpenProject;
use crate::turns::Turn;

/// Frames with keyframes before the first one that the model is shown.
const SHOWN: usize = 3;
/// Frames that a client may lag behind.
const UNREAD: usize = 16;
/// How long a client is waited for that reads nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// From where to where, and which objects.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// The frame whose masks are followed.
    pub(crate) from: u32,
    /// The last frame.
    pub(crate) to: u32,
    /// Only these; `None` for all that have a mask in the first frame.
    pub(crate) tracks: Option<Vec<TrackId>>,
}

/// A frame that is done, with its masks.
pub(crate) struct Done {
    pub(crate) frame: u32,
    pub(crate) picture: PictureId,
    pub(crate) placed: Vec<Placed>,
}

/// Objects on their way.
struct Propagation {
    open: Arc<OpenProject>,
    model: Arc<LoadedModel>,
    author: String,
    video: PictureId,
    frames: Vec<PictureId>,
    source: Box<dyn FrameSource>,
    session: VideoSession,
    /// The classes of those that are followed.
    classes: BTreeMap<TrackId, Option<ClassId>>,
    /// The frame whose masks are followed.
    from: u32,
    /// Frames in which somebody has drawn one of them.
    keyframes: HashSet<u32>,
    direction: Direction,
    action: Option<ActionId>,
    _turn: Turn,
}

/// Follows objects from frame to frame, writes their masks and hands them over. It ends when nobody listens or the
/// server ends; what was found until then is kept.
pub(crate) async fn propagate(
    open: &Arc<OpenProject>,
    model: &Arc<LoadedModel>,
    author: String,
    source: Box<dyn FrameSource>,
    id: PictureId,
    way: Way,
    ending: CancellationToken,
) -> Result<mpsc::Receiver<Result<Done>>> {
    let turn = open.turns.turn(id).await?;
    let from = way.from;
    let frames = open.ask(move |project| project.frames(id)).await?;
    let count = frames.len();
    let beyond = |field: &str, frame: u32| {
        let detail = format!("there is no frame {frame}; the video has {count}");
        Problem::field(field, detail)
    };
    let first = frames.get(from as usize).copied();
    let first = first.ok_or_else(|| beyond("from", from))?;
    if way.to as usize >= count {
        return Err(beyond("to", way.to));
    }
    if way.to == from {
        return Err(Problem::field(
            "to",
            "is the frame from which objects are followed",
        ));
    }
    let seeds = open.ask(move |project| project.objects(first)).await?;
    let classes = followed(&seeds, &way)?;
    let placed = open.ask(move |project| project.tracks(id)).await?;
    let is_key = |p: &&Placed| p.is_keyframe && !p.is_hidden && classes.contains_key(&p.track);
    let keyframes: HashSet<u32> = placed.iter().filter(is_key).map(|p| p.frame).collect();
    let direction = if way.to > from {
        Direction::Forward
    } else {
        Direction::Backward
    };
    let options = VideoOptions::default().with_num_frames(count);
    let propagation = Propagation {
        open: Arc::clone(open),
        session: VideoSession::new(model.segmenter(), options),
        model: Arc::clone(model),
        author,
        video: id,
        frames,
        source,
        classes,
        from,
        keyframes,
        direction,
        action: None,
        _turn: turn,
    };
    let (sender, receiver) = mpsc::channel(UNREAD);
    tokio::spawn(async move {
        let cancelled = ending.child_token();
        let work = propagation.run(&way, &sender, &cancelled);
        let ended = tokio::select! {
            ended = work => ended,
            () = sender.closed() => Ok(()),
            () = ending.cancelled() => Err(Problem::unavailable("the server ends")),
        };
        cancelled.cancel();
        if let Err(problem) = ended {
            let _ = sender.send_timeout(Err(problem), PATIENCE).await;
        }
    });
    Ok(receiver)
}

/// The objects that are followed, with their classes.
fn followed(seeds: &[Object], way: &Way) -> Result<BTreeMap<TrackId, Option<ClassId>>> {
    let there = seeds.iter().filter(|seed| seed.content.mask.area() > 0);
    let there: BTreeMap<_, _> = there
        .filter_map(|seed| Some((seed.content.track?.id, seed.content.class)))
        .collect();
    let Some(wanted) = &way.tracks else {
        if there.is_empty() {
            let detail = format!("there is no mask in frame {} to be followed", way.from);
            return Err(Problem::field("from", detail));
        }
        return Ok(there);
    };
    let class = |track: &TrackId| {
        let class = there.get(track).ok_or_else(|| {
            let detail = format!("track {track} has no mask in frame {}", way.from);
            Problem::field("tracks", detail)
        })?;
        Ok((*track, *class))
    };
    if wanted.is_empty() {
        return Err(Problem::field("tracks", "names no track"));
    }
    wanted.iter().map(class).collect()
}

impl Propagation {
    async fn run(
        mut self,
        way: &Way,
        sender: &mpsc::Sender<Result<Done>>,
        cancelled: &CancellationToken,
    ) -> Result<()> {
        for frame in self.shown() {
            self = self.step(frame, false, cancelled).await?.0;
        }
        let order: Box<dyn Iterator<Item = u32> + Send> = match self.direction {
            Direction::Forward => Box::new(way.from..=way.to),
            Direction::Backward => Box::new((way.to..=way.from).rev()),
        };
        for frame in order {
            let (next, found) = self.step(frame, true, cancelled).await?;
            self = next;
            let Some(found) = found.filter(|_| frame != way.from) else {
                continue;
            };
            let (next, done) = blocking(move || self.write(frame, &found)).await??;
            self = next;
            if sender.send_timeout(Ok(done), PATIENCE).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The frames behind the first one whose masks are shown to the model, the farthest first.
    fn shown(&self) -> Vec<u32> {
        let from = self.from;
        let is_behind = |frame: &u32| match self.direction {
            Direction::Forward => *frame < from,
            Direction::Backward => *frame > from,
        };
        let mut behind: Vec<u32> = self.keyframes.iter().copied().filter(is_behind).collect();
        behind.sort_unstable_by_key(|frame| frame.abs_diff(from));
        behind.truncate(SHOWN);
        behind.reverse();
        behind
    }

    /// The masks of a frame that somebody has drawn, and of the first one all.
    fn drawn(&self, project: &Project, frame: u32) -> Result<Vec<(u32, Mask)>> {
        let mut drawn = Vec::new();
        for object in project.objects(self.frames[frame as usize])? {
            let Some(track) = object.content.track else {
                continue;
            };
            let is_wanted = self.classes.contains_key(&track.id)
                && (track.is_keyframe || frame == self.from)
                && object.content.mask.area() > 0;
            if is_wanted {
                let mask = object.content.mask.to_mask();
                let mask = mask.map_err(Problem::internal)?;
                drawn.push((number(track.id), mask));
            }
        }
        Ok(drawn)
    }

    /// Shows the model the masks of a frame that are drawn, and finds the others if it is to be `tracked`.
    async fn step(
        mut self,
        frame: u32,
        is_tracked: bool,
        cancelled: &CancellationToken,
    ) -> Result<(Self, Option<FrameMasks>)> {
        let prepared = blocking(move || {
            let image = frame_of(&mut *self.source, frame)?;
            let has_masks = frame == self.from || self.keyframes.contains(&frame);
            let open = Arc::clone(&self.open);
            let drawn = if has_masks {
                open.with(|project| self.drawn(project, frame))?
            } else {
                Vec::new()
            };
            Ok::<_, Problem>((self, image, drawn))
        });
        let (mut this, image, drawn) = prepared.await??;
        let model = Arc::clone(&this.model);
        let work = model
            .owner
            .run(Urgency::Job, cancelled.clone(), move |model, pause| {
                let found = this.find(model, pause, frame, &image, &drawn, is_tracked)?;
                Ok((this, found))
            });
        work.await
    }

    fn find(
        &mut self,
        model: &dyn crate::model::Model,
        pause: &mut Pause<'_>,
        frame: u32,
        image: &RgbImage,
        drawn: &[(u32, Mask)],
        is_tracked: bool,
    ) -> Result<Option<FrameMasks>> {
        let embedded = model.embed_frame(frame as usize, image, &mut || pause.take())?;
        for (object, mask) in drawn {
            let prompt = Prompt::mask(mask.clone());
            self.session.prompt(&embedded, *object, &prompt)?;
        }
        if !is_tracked {
            return Ok(None);
        }
        Ok(Some(model.track(
            &mut self.session,
            &embedded,
            self.direction,
        )?))
    }

    /// Keeps what was found in a frame, but for what somebody has drawn.
    fn write(mut self, frame: u32, found: &FrameMasks) -> Result<(Self, Done)> {
        let picture = self.frames[frame as usize];
        let open = Arc::clone(&self.open);
        let placed = open.with(|project| {
            let there = project.objects(picture)?;
            let mut edits = Vec::new();
            for object in &found.objects {
                let track = TrackId(i64::from(object.object));
                let of_track = |o: &&Object| o.content.track.is_some_and(|t| t.id == track);
                let known = there.iter().find(of_track);
                let is_drawn =
                    known.is_some_and(|o| o.content.track.is_some_and(|t| t.is_keyframe));
                // Somebody may have deleted the object in all frames meanwhile.
                if is_drawn || known.is_none() && !project.has_track(self.video, track)? {
                    continue;
                }
                let mask = if object.is_present() {
                    object.mask.to_rle()
                } else {
                    Mask::new(object.mask.width(), object.mask.height()).to_rle()
                };
                let mut content = known.map_or_else(
                    || NewObject::new(mask.clone()),
                    |known| NewObject {
                        mask: mask.clone(),
                        prompt: None,
                        ..known.content.clone()
                    },
                );
                content.class = self.classes.get(&track).copied().flatten();
                content.predicted_iou = object.is_present().then_some(object.predicted_iou.0);
                content.track = Some(Track {
                    id: track,
                    is_keyframe: false,
                });
                edits.push(match known {
                    Some(known) => Edit::Change(known.id, content),
                    None => Edit::Add(content),
                });
            }
            self.action = project.apply_to_frame(picture, &self.author, &edits, self.action)?;
            let after = project.objects(picture)?;
            let placed = after.iter().filter_map(|object| Placed::of(frame, object));
            Ok::<_, Problem>(placed.collect())
        })?;
        open.tell_picture(picture);
        let done = Done {
            frame,
            picture,
            placed,
        };
        Ok((self, done))
    }
}

/// A track as the model knows it.
fn number(track: TrackId) -> u32 {
    // It has at most five digits.
    track.0.try_into().unwrap_or(u32::MAX)
}
