//! Label Studio's labelling configuration: which control takes the masks.

use std::collections::{BTreeSet, HashMap};

use roxmltree::{Document, Node};

use crate::error::{Problem, Result};

/// What a control takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Brush,
    Polygon,
}

/// The control that takes the masks, and the image that it is for.
#[derive(Debug, PartialEq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    /// The control's name.
    pub(super) from_name: String,
    /// The image's name.
    pub(super) to_name: String,
    /// The key of the task's data under which the image is.
    pub(super) data_key: String,
    /// Whether regions carry a label.
    pub(super) labelled: bool,
    /// The labels of the control.
    labels: Vec<String>,
}

/// Bytes of a configuration.
const LONGEST: usize = 1 << 20;

/// What a project asks for.
#[derive(Debug)]
pub(super) struct LabelingConfig {
    /// All pairs of a control and an image: brushes first, then polygons.
    targets: Vec<Target>,
}

impl LabelingConfig {
    /// Reads its XML.
    pub(super) fn read(config: &str) -> Result<Self> {
        let refuse = |why: String| Problem::field("label_config", why);
        if config.len() > LONGEST {
            let why = format!("has {} bytes; at most {LONGEST} are read", config.len());
            return Err(refuse(why));
        }
        let document = Document::parse(config).map_err(|e| refuse(format!("is no XML: {e}")))?;
        let nodes: Vec<Node<'_, '_>> = document.descendants().filter(Node::is_element).collect();
        let images: HashMap<&str, &str> = nodes
            .iter()
            .filter(|node| is(node, "Image"))
            .filter_map(|node| Some((attribute(node, "name")?, attribute(node, "value")?)))
            .collect();
        let mut targets = Vec::new();
        for (tag, kind, labelled) in [
            ("BrushLabels", Kind::Brush, true),
            ("Brush", Kind::Brush, false),
            ("PolygonLabels", Kind::Polygon, true),
            ("Polygon", Kind::Polygon, false),
        ] {
            for node in nodes.iter().filter(|node| is(node, tag)) {
                let (Some(from_name), Some(to)) =
                    (attribute(node, "name"), attribute(node, "toName"))
                else {
                    continue;
                };
                let names: BTreeSet<&str> = to.split(',').map(str::trim).collect();
                let of = |to_name: &str| Some((to_name.to_owned(), *images.get(to_name)?));
                targets.extend(
                    names
                        .into_iter()
                        .filter_map(of)
                        .map(|(to_name, value)| Target {
                            kind,
                            from_name: from_name.to_owned(),
                            to_name,
                            data_key: value.trim_start_matches('$').to_owned(),
                            labelled,
                            labels: labels_of(node),
                        }),
                );
            }
        }
        Ok(Self { targets })
    }

    /// The control that takes the masks of an image, or of any if none is named.
    pub(super) fn target(&self, image: Option<&str>) -> Result<&Target> {
        let is_of = |target: &&Target| image.is_none_or(|image| target.to_name == image);
        self.targets.iter().find(is_of).ok_or_else(|| {
            let image = image.map_or_else(|| "an Image".into(), |name| format!("image {name:?}"));
            let why = format!(
                "has no BrushLabels, Brush, PolygonLabels or Polygon for {image}, which could take a mask"
            );
            Problem::field("label_config", why)
        })
    }
}

fn labels_of(control: &Node<'_, '_>) -> Vec<String> {
    let labels = control.descendants().filter(|child| is(child, "Label"));
    let label = |child: Node<'_, '_>| {
        let named = attribute(&child, "alias").or_else(|| attribute(&child, "value"));
        named.map(str::to_owned)
    };
    labels.filter_map(label).collect()
}

impl Target {
    /// The label of a mask: that of the prompt if the control has it, or else its first.
    pub(super) fn label(&self, prompt: Option<&str>) -> Option<String> {
        let own = prompt.filter(|label| self.labels.iter().any(|known| known == label));
        own.map(str::to_owned)
            .or_else(|| self.labels.first().cloned())
            .or_else(|| prompt.map(str::to_owned))
            .filter(|_| self.labelled)
    }

    /// The type of its regions, which is also the key of their labels.
    pub(super) fn region_type(&self) -> &'static str {
        match (self.kind, self.labelled) {
            (Kind::Brush, true) => "brushlabels",
            (Kind::Brush, false) => "brush",
            (Kind::Polygon, true) => "polygonlabels",
            (Kind::Polygon, false) => "polygon",
        }
    }
}

/// Tags and attributes are written in any case.
fn is(node: &Node<'_, '_>, tag: &str) -> bool {
    node.tag_name().name().eq_ignore_ascii_case(tag)
}

fn attribute<'a>(node: &Node<'a, '_>, name: &str) -> Option<&'a str> {
    let found = node
        .attributes()
        .find(|a| a.name().eq_ignore_ascii_case(name))?;
    Some(found.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"<View>
        <Image name="image" value="$photo" zoom="true"/>
        <PolygonLabels name="poly" toName="image"><Label value="Cat"/></PolygonLabels>
        <BrushLabels name="brush" toName="image"><Label value="Cat"/><Label value="Dog" alias="D"/></BrushLabels>
        <KeyPointLabels name="kp" toName="image" smart="true"><Label value="Cat"/></KeyPointLabels>
    </View>"#;

    #[test]
    fn the_brush_takes_the_mask() {
        let config = LabelingConfig::read(CONFIG).unwrap();
        let target = config.target(None).unwrap();
        assert_eq!(config.target(Some("image")).unwrap(), target);
        config.target(Some("other")).unwrap_err();
        assert_eq!(
            (
                &*target.from_name,
                &*target.to_name,
                &*target.data_key,
                target.region_type()
            ),
            ("brush", "image", "photo", "brushlabels")
        );
        assert_eq!(target.label(Some("D")).as_deref(), Some("D"));
        assert_eq!(target.label(Some("Horse")).as_deref(), Some("Cat"));
    }

    #[test]
    fn a_polygon_takes_it_where_there_is_no_brush() {
        let config = LabelingConfig::read(
            "<View><IMAGE Name='i' Value='$a'/><Text name='t' value='$b'/><Polygon name='p' toname='t, i'/></View>",
        );
        let config = config.unwrap();
        let target = config.target(None).unwrap();
        assert_eq!(
            (target.kind, target.label(Some("x"))),
            (Kind::Polygon, None)
        );
    }

    #[test]
    fn each_image_has_its_own() {
        let config = LabelingConfig::read(
            "<View><Image name='a' value='$one'/><Image name='z' value='$two'/>
             <Brush name='first' toName='a'/><Brush name='second' toName='z'/></View>",
        );
        let config = config.unwrap();
        let target = config.target(Some("z")).unwrap();
        assert_eq!((&*target.from_name, &*target.data_key), ("second", "two"));
    }

    #[test]
    fn others_are_refused() {
        let target = |text: &str| LabelingConfig::read(text)?.target(None).map(|_| ());
        target("<View><Image name='i' value='$a'/></View>").unwrap_err();
        target("<View><Brush name='b' toName='i'/></View>").unwrap_err();
        target("<View>").unwrap_err();
        target("").unwrap_err();
        target(&" ".repeat(LONGEST + 1)).unwrap_err();
    }
}
