//! Objects followed through a video.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use numpy::{IntoPyArray, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use samara::{
    Direction, Frame, FrameMasks, FrameSource, ImageLimits, ObjectMask, RgbImage, Segmenter,
    VideoFrame, VideoOptions, VideoSession, open_video, read_image,
};

use crate::convert::{image_of, options_of, path_of, refuse_single, rle_dict};
use crate::embedding::check_mask;
use crate::error::{VideoError, raise};
use crate::mask::array;
use crate::prompt::PyPrompt;
use crate::segmenter::PySegmenter;

/// Images that Python has, or their files, as the frames of a video.
struct Frames {
    images: Vec<ImageSource>,
    size: (u32, u32),
}

enum ImageSource {
    File(PathBuf),
    Pixels(RgbImage),
}

impl ImageSource {
    fn read(&self) -> Result<RgbImage, samara_image::Error> {
        match self {
            Self::File(path) => read_image(path, &ImageLimits::default()),
            Self::Pixels(image) => Ok(image.clone()),
        }
    }
}

impl Frames {
    fn new(images: &Bound<'_, PyAny>) -> PyResult<Self> {
        refuse_single(images, "video")?;
        let source = |image: PyResult<Bound<'_, PyAny>>| {
            let image = image?;
            Ok(match path_of(&image)? {
                Some(path) => ImageSource::File(path),
                None => ImageSource::Pixels(image_of(&image)?),
            })
        };
        let images = images
            .try_iter()
            .map_err(|_| VideoError::new_err("video: neither a path nor a sequence of images"))?;
        let images: Vec<ImageSource> = images.map(source).collect::<PyResult<_>>()?;
        let none = || VideoError::new_err("video: no images");
        let first = images.first().ok_or_else(none)?.read().map_err(raise)?;
        let size = first.dimensions();
        Ok(Self { images, size })
    }
}

impl FrameSource for Frames {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn len_hint(&self) -> Option<usize> {
        Some(self.images.len())
    }

    fn frame_rate(&self) -> Option<f64> {
        None
    }

    fn read(&mut self, index: usize) -> Result<Option<RgbImage>, samara_image::Error> {
        self.images.get(index).map(ImageSource::read).transpose()
    }
}

/// Follows objects through the frames of a video, which are read one by one and not kept.
///
/// Parameters
/// ----------
/// segmenter : Segmenter
///     A model of SAM 2 remembers objects; with any other the last mask is carried on.
/// video : str, path-like or sequence of images, optional
///     A folder of frames, a video file, which is read through ffmpeg, or images as :meth:`Segmenter.embed` takes them.
///     Without it every call brings its image.
/// **options
///     ``num_frames``, ``non_overlap_masks`` (False), ``fill_hole_area`` (8),
///     ``add_all_frames_to_correct_as_cond`` (True), ``clear_non_cond_mem_around_input`` (False), ``keep_all`` (False).
///
/// Examples
/// --------
/// >>> session = samara.VideoSession(segmenter, "frames")  # doctest: +SKIP
/// >>> session.prompt(0, 1, [520, 360])  # doctest: +SKIP
/// ObjectMask(1, area=8123, object_score=9.31)
/// >>> for frame in session.propagate():  # doctest: +SKIP
/// ...     print(frame.index, frame.masks[1].sum())
#[pyclass(name = "VideoSession", module = "samara", frozen)]
pub(crate) struct PyVideoSession {
    inner: Mutex<Inner>,
    segmenter: Py<PySegmenter>,
}

struct Inner {
    session: VideoSession,
    source: Option<Box<dyn FrameSource>>,
    /// The frame that was embedded last.
    last: Option<VideoFrame>,
}

impl Inner {
    /// A frame of the video, embedded; `None` past its end.
    fn frame(&mut self, index: usize) -> samara::Result<Option<VideoFrame>> {
        if let Some(frame) = self.last.as_ref().filter(|frame| frame.index() == index) {
            return Ok(Some(frame.clone()));
        }
        let Some(source) = &mut self.source else {
            return Ok(None);
        };
        let frame = read(self.session.segmenter(), source.as_mut(), index)?;
        self.last.clone_from(&frame);
        Ok(frame)
    }
}

fn read(
    segmenter: &Segmenter,
    source: &mut dyn FrameSource,
    index: usize,
) -> samara::Result<Option<VideoFrame>> {
    let image = source.read(index)?;
    image
        .map(|image| segmenter.embed_frame(index, &image))
        .transpose()
}

impl PyVideoSession {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on a frame: that of the video, or the image that is given for it.
    fn on_frame<T: Send>(
        &self,
        py: Python<'_>,
        index: usize,
        image: Option<&Bound<'_, PyAny>>,
        work: impl FnOnce(&mut VideoSession, &VideoFrame) -> samara::Result<T> + Send,
    ) -> PyResult<T> {
        let image = image.map(image_of).transpose()?;
        let done = py.detach(|| {
            let mut inner = self.lock();
            let frame = match image {
                Some(image) => {
                    let frame = inner.session.embed(index, &image)?;
                    inner.last = Some(frame.clone());
                    Some(frame)
                }
                None => inner.frame(index)?,
            };
            let Some(frame) = frame else {
                return Ok(None);
            };
            work(&mut inner.session, &frame).map(Some)
        });
        done.map_err(raise)?.ok_or_else(|| {
            VideoError::new_err(if self.lock().source.is_some() {
                format!("frame {index}: the video ends before it")
            } else {
                format!("frame {index}: the session has no video; give the image of the frame")
            })
        })
    }
}

/// The frames of a path, or of images.
fn source_of(video: &Bound<'_, PyAny>) -> PyResult<Box<dyn FrameSource>> {
    let Some(path) = path_of(video)? else {
        return Ok(Box::new(Frames::new(video)?));
    };
    let is_image = path.is_file()
        && path.extension().is_some_and(|extension| {
            let extension = extension.to_string_lossy().to_lowercase();
            ["bmp", "jpeg", "jpg", "png", "tif", "tiff"].contains(&&*extension)
        });
    if is_image {
        let why = "is an image; give a folder or a list of images, or a video file";
        return Err(VideoError::new_err(format!("{}: {why}", path.display())));
    }
    let opened = video
        .py()
        .detach(|| open_video(path, &ImageLimits::default()));
    opened.map_err(raise)
}

fn direction_of(name: &str) -> PyResult<Direction> {
    match name {
        "forward" => Ok(Direction::Forward),
        "backward" => Ok(Direction::Backward),
        _ => Err(VideoError::new_err(format!(
            "direction '{name}': expected 'forward' or 'backward'"
        ))),
    }
}

#[pymethods]
impl PyVideoSession {
    #[new]
    #[pyo3(signature = (segmenter, video = None, **options))]
    fn new(
        segmenter: &Bound<'_, PySegmenter>,
        video: Option<Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let options: VideoOptions = options_of(options)?;
        let source = video.map(|video| source_of(&video)).transpose()?;
        Ok(Self {
            inner: Mutex::new(Inner {
                session: VideoSession::new(&segmenter.get().segmenter, options),
                source,
                last: None,
            }),
            segmenter: segmenter.clone().unbind(),
        })
    }

    /// The model.
    #[getter]
    fn segmenter(&self, py: Python<'_>) -> Py<PySegmenter> {
        self.segmenter.clone_ref(py)
    }

    /// The objects that are followed.
    #[getter]
    fn objects(&self) -> Vec<u32> {
        self.lock().session.objects().collect()
    }

    /// Width and height of the frames in pixels; None before the first one.
    #[getter]
    fn size(&self) -> Option<(u32, u32)> {
        let inner = self.lock();
        let seen = inner
            .last
            .as_ref()
            .map(|frame| frame.frame().original_size());
        seen.or_else(|| inner.source.as_ref().map(|source| source.size()))
    }

    /// How many frames the video has; what its file says may be wrong by some. None where nothing is known.
    #[getter]
    fn frame_count(&self) -> Option<usize> {
        self.lock().source.as_ref()?.len_hint()
    }

    /// Frames per second, on average; None for a folder.
    #[getter]
    fn frame_rate(&self) -> Option<f64> {
        self.lock().source.as_ref()?.frame_rate()
    }

    /// Answers a prompt for an object, new or known, on any frame.
    ///
    /// Parameters
    /// ----------
    /// frame : int
    ///     Number of the frame, from 0.
    /// object : int
    ///     Number of the object.
    /// points, labels, box, mask, intent
    ///     As of :class:`Prompt`; a :class:`Prompt` may be given in the place of the points. They replace an earlier
    ///     prompt for this object on this frame.
    /// image : str, path-like, bytes, PIL image or array_like of uint8, optional
    ///     The image of the frame, for a session without a video.
    ///
    /// Returns
    /// -------
    /// ObjectMask
    #[pyo3(signature = (
        frame, object, points = None, labels = None, *, r#box = None, mask = None, intent = "balanced", image = None
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    fn prompt(
        &self,
        py: Python<'_>,
        frame: usize,
        object: u32,
        points: Option<Bound<'_, PyAny>>,
        labels: Option<Bound<'_, PyAny>>,
        r#box: Option<Bound<'_, PyAny>>,
        mask: Option<Bound<'_, PyAny>>,
        intent: &str,
        image: Option<Bound<'_, PyAny>>,
    ) -> PyResult<PyObjectMask> {
        let prompt = PyPrompt::or_given(points, labels, r#box, mask, false, intent)?;
        if let Some(size) = self.size().filter(|_| image.is_none()) {
            check_mask(&prompt, size)?;
        }
        self.on_frame(py, frame, image.as_ref(), |session, frame| {
            let found = session.prompt(frame, object, &prompt)?;
            Ok(PyObjectMask::new(found, frame.frame()))
        })
    }

    /// Finds all objects in a frame beside the last one.
    ///
    /// Parameters
    /// ----------
    /// frame : int
    ///     Number of the frame, from 0.
    /// image : optional
    ///     As of :meth:`prompt`.
    /// direction : {"forward", "backward"}
    ///
    /// Returns
    /// -------
    /// FrameMasks
    #[pyo3(signature = (frame, image = None, *, direction = "forward"))]
    fn track(
        &self,
        py: Python<'_>,
        frame: usize,
        image: Option<Bound<'_, PyAny>>,
        direction: &str,
    ) -> PyResult<PyFrameMasks> {
        let direction = direction_of(direction)?;
        self.on_frame(py, frame, image.as_ref(), |session, frame| {
            let found = session.track(frame, direction)?;
            Ok(PyFrameMasks::new(found, frame.frame()))
        })
    }

    /// Finds all objects in a range of frames of the video, one frame for each step of the loop; the next frame is
    /// read meanwhile. Leave the loop to stop; another one goes on from any frame.
    ///
    /// Parameters
    /// ----------
    /// start : int, optional
    ///     The first frame; without it the first frame of the video, or backward the last.
    /// stop : int, optional
    ///     The last frame of the loop.
    /// direction : {"forward", "backward"}
    ///
    /// Returns
    /// -------
    /// iterator of FrameMasks
    #[pyo3(signature = (start = None, stop = None, *, direction = "forward"))]
    fn propagate(
        slf: &Bound<'_, Self>,
        start: Option<usize>,
        stop: Option<usize>,
        direction: &str,
    ) -> PyResult<PyPropagation> {
        let direction = direction_of(direction)?;
        let (count, has_source) = {
            let inner = slf.get().lock();
            let count = inner.source.as_ref().and_then(|source| source.len_hint());
            (count, inner.source.is_some())
        };
        if !has_source {
            let why = "propagate: the session has no video; give every frame to track()";
            return Err(VideoError::new_err(why));
        }
        let next = match (direction, start, count) {
            (_, Some(start), _) => Some(start),
            (Direction::Forward, None, _) => Some(0),
            (Direction::Backward, None, Some(count)) => count.checked_sub(1),
            (Direction::Backward, None, None) => {
                let why =
                    "propagate: the length of the video is not known; name the frame to start at";
                return Err(VideoError::new_err(why));
            }
        };
        Ok(PyPropagation {
            session: slf.clone().unbind(),
            state: Mutex::new(next.filter(|&next| is_before(next, stop, direction))),
            stop,
            direction,
        })
    }

    /// What is known of an object in a frame: the answer to its prompt there, or what was found last.
    ///
    /// Parameters
    /// ----------
    /// frame : int
    ///     Number of the frame, from 0.
    /// object : int
    ///     Number of the object.
    ///
    /// Returns
    /// -------
    /// ObjectMask or None
    ///     None where the object was not looked for, or where that is forgotten.
    fn known(&self, py: Python<'_>, frame: usize, object: u32) -> PyResult<Option<PyObjectMask>> {
        let known = py.detach(|| {
            let inner = self.lock();
            let session = &inner.session;
            let known = session.known(frame, object)?.zip(session.size());
            known
                .map(|(mask, (width, height))| {
                    let frame = session.segmenter().frame(width, height)?;
                    Ok::<_, samara::Error>(PyObjectMask::new(mask, &frame))
                })
                .transpose()
        });
        known.map_err(raise)
    }

    /// Takes the prompts for an object on a frame back. What was found there stays, until the frame is tracked again,
    /// and conditions no other frame.
    ///
    /// Parameters
    /// ----------
    /// frame : int
    ///     Number of the frame, from 0.
    /// object : int
    ///     Number of the object.
    fn clear_prompt(&self, frame: usize, object: u32) -> PyResult<()> {
        let mut inner = self.lock();
        inner.session.clear_prompt(frame, object).map_err(raise)
    }

    /// Forgets an object.
    fn remove(&self, object: u32) -> PyResult<()> {
        self.lock().session.remove(object).map_err(raise)
    }

    /// Saves what is remembered to a file (safetensors), bound to the weights; the frames are not in it.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.lock().session.save(path)).map_err(raise)
    }

    /// Loads a session that the same weights saved.
    ///
    /// Raises
    /// ------
    /// SavedError
    ///     The file is missing, damaged, no session, or of other weights.
    #[staticmethod]
    #[pyo3(signature = (path, segmenter, video = None))]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        segmenter: &Bound<'_, PySegmenter>,
        video: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let model = &segmenter.get().segmenter;
        let source = video.map(|video| source_of(&video)).transpose()?;
        let session = py.detach(|| VideoSession::load(path, model));
        Ok(Self {
            inner: Mutex::new(Inner {
                session: session.map_err(raise)?,
                source,
                last: None,
            }),
            segmenter: segmenter.clone().unbind(),
        })
    }

    fn __repr__(&self) -> String {
        let inner = self.lock();
        let objects = inner.session.objects().count();
        let name = inner.session.segmenter().name();
        format!("VideoSession({name}, {objects} objects)")
    }
}

/// Frame after frame of a session.
#[pyclass(name = "Propagation", module = "samara", frozen)]
pub(crate) struct PyPropagation {
    session: Py<PyVideoSession>,
    /// The frame that comes next, if any.
    state: Mutex<Option<usize>>,
    stop: Option<usize>,
    direction: Direction,
}

impl PyPropagation {
    /// The frame after this one, in the order of the direction.
    fn after(&self, index: usize) -> Option<usize> {
        let next = match self.direction {
            Direction::Forward => index.checked_add(1),
            Direction::Backward => index.checked_sub(1),
        };
        next.filter(|&next| is_before(next, self.stop, self.direction))
    }
}

/// Whether a frame comes before the end of a loop, or is its last one.
fn is_before(frame: usize, stop: Option<usize>, direction: Direction) -> bool {
    stop.is_none_or(|stop| match direction {
        Direction::Forward => frame <= stop,
        Direction::Backward => frame >= stop,
    })
}

#[pymethods]
impl PyPropagation {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PyFrameMasks>> {
        py.check_signals()?;
        let found: samara::Result<_> = py.detach(|| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(index) = *state else {
                return Ok(None);
            };
            let mut inner = self.session.get().lock();
            let Some(frame) = inner.frame(index)? else {
                *state = None;
                return Ok(None);
            };
            let next = self.after(index);
            let Inner {
                session,
                source,
                last,
            } = &mut *inner;
            let segmenter = session.segmenter().clone();
            let (found, ahead) = std::thread::scope(|scope| {
                let ahead = next.zip(source.as_mut());
                let ahead = ahead.map(|(next, source)| {
                    scope.spawn(move || read(&segmenter, source.as_mut(), next))
                });
                let found = session.track(&frame, self.direction);
                (found, ahead.map(std::thread::ScopedJoinHandle::join))
            });
            let found = found?;
            *state = next;
            // What is wrong with the next frame is told when it is asked for.
            if let Some(Ok(Ok(frame))) = ahead {
                *last = frame.or(last.take());
            }
            Ok(Some(PyFrameMasks::new(found, frame.frame())))
        });
        found.map_err(raise)
    }
}

/// All objects in a frame.
#[pyclass(name = "FrameMasks", module = "samara", frozen)]
pub(crate) struct PyFrameMasks {
    /// Number of the frame, from 0.
    #[pyo3(get)]
    index: usize,
    objects: Vec<PyObjectMask>,
}

impl PyFrameMasks {
    fn new(found: FrameMasks, frame: &Frame) -> Self {
        let objects = found.objects.into_iter();
        Self {
            index: found.index,
            objects: objects
                .map(|found| PyObjectMask::new(found, frame))
                .collect(),
        }
    }
}

#[pymethods]
impl PyFrameMasks {
    /// The objects, in the order of their numbers.
    #[getter]
    fn objects(&self) -> Vec<PyObjectMask> {
        self.objects.clone()
    }

    /// The masks by the numbers of their objects, ``bool`` of the frame's size; new arrays each time.
    #[getter]
    fn masks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let masks = PyDict::new(py);
        for object in &self.objects {
            masks.set_item(object.found.object, object.mask(py)?)?;
        }
        Ok(masks)
    }

    fn __repr__(&self) -> String {
        format!("FrameMasks({}, {} objects)", self.index, self.objects.len())
    }
}

/// An object in a frame.
#[pyclass(name = "ObjectMask", module = "samara", frozen)]
#[derive(Clone)]
pub(crate) struct PyObjectMask {
    found: ObjectMask,
    frame: Frame,
}

impl PyObjectMask {
    fn new(found: ObjectMask, frame: &Frame) -> Self {
        Self {
            found,
            frame: *frame,
        }
    }
}

#[pymethods]
impl PyObjectMask {
    /// Number of the object.
    #[getter]
    fn object(&self) -> u32 {
        self.found.object
    }

    /// The mask, ``bool`` of the frame's size, empty when the object is not there; a new array each time.
    #[getter]
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<bool>>> {
        array(py, &self.found.mask)
    }

    /// The mask as COCO run lengths.
    #[getter]
    fn rle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        rle_dict(py, &self.found.mask.to_rle(), true)
    }

    /// The estimated IoU; 1 for a mask that was a prompt.
    #[getter]
    fn predicted_iou(&self) -> f32 {
        self.found.predicted_iou.0
    }

    /// Logit of the object being in the frame.
    #[getter]
    fn object_score(&self) -> f32 {
        self.found.object_score
    }

    /// Whether the object is in the frame.
    #[getter]
    fn is_present(&self) -> bool {
        self.found.is_present()
    }

    /// The probability that the object is hidden or out of the frame.
    #[getter]
    fn occlusion_probability(&self) -> f32 {
        self.found.occlusion_probability()
    }

    /// The logits from which the mask was made, ``float32`` of shape (n, n).
    #[getter]
    fn low_res_logits<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let logits = &self.found.low_res_logits;
        let values = logits.values().to_vec().into_pyarray(py);
        values.reshape([logits.side(), logits.side()])
    }

    /// The logits of every pixel, ``float32`` of the frame's size.
    #[getter]
    fn logits<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (width, height) = self.frame.original_size();
        let logits = py.detach(|| self.found.low_res_logits.upsample_logits(&self.frame));
        let logits = logits.map_err(raise)?.into_pyarray(py);
        logits.reshape([height as usize, width as usize])
    }

    fn __repr__(&self) -> String {
        format!(
            "ObjectMask({}, area={}, object_score={:.2})",
            self.found.object,
            self.found.mask.area(),
            self.found.object_score
        )
    }
}
