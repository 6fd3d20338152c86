//! Label Studio's labelling configuration: which control takes the masks.

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

impl Target {
    /// The first brush of an image, or else the first polygon.
    pub(super) fn of(config: &str) -> Result<Self> {
        let refuse = |why: String| Problem::field("label_config", why);
        let document = Document::parse(config).map_err(|e| refuse(format!("is no XML: {e}")))?;
        let nodes: Vec<Node<'_, '_>> = document.descendants().filter(Node::is_element).collect();
        let images: Vec<(&str, &str)> = nodes
            .iter()
            .filter(|node| is(node, "Image"))
            .filter_map(|node| Some((attribute(node, "name")?, attribute(node, "value")?)))
            .collect();
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
                let image = to
                    .split(',')
                    .find_map(|to| images.iter().find(|(name, _)| *name == to.trim()));
                if let Some((to_name, value)) = image {
                    let labels = node.descendants().filter(|child| is(child, "Label"));
                    let label = |child: Node<'_, '_>| {
                        let named =
                            attribute(&child, "alias").or_else(|| attribute(&child, "value"));
                        named.map(str::to_owned)
                    };
                    return Ok(Self {
                        kind,
                        from_name: from_name.to_owned(),
                        to_name: (*to_name).to_owned(),
                        data_key: value.trim_start_matches('$').to_owned(),
                        labelled,
                        labels: labels.filter_map(label).collect(),
                    });
                }
            }
        }
        let why = "has no BrushLabels, Brush, PolygonLabels or Polygon for an Image, which could take a mask";
        Err(refuse(why.into()))
    }

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
        let target = Target::of(CONFIG).unwrap();
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
        let target = Target::of(
            "<View><IMAGE Name='i' Value='$a'/><Text name='t' value='$b'/><Polygon name='p' toname='t, i'/></View>",
        );
        let target = target.unwrap();
        assert_eq!(
            (target.kind, target.label(Some("x"))),
            (Kind::Polygon, None)
        );
    }

    #[test]
    fn others_are_refused() {
        Target::of("<View><Image name='i' value='$a'/></View>").unwrap_err();
        Target::of("<View><Brush name='b' toName='i'/></View>").unwrap_err();
        Target::of("<View>").unwrap_err();
        Target::of("").unwrap_err();
    }
}
