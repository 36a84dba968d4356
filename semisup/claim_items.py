"""The 44 items of CLAIM, the checklist for articles on artificial intelligence in medical imaging.

Numbers and subjects are those of the 2024 update, in our own short words; each has a hint for what an author
should write where the software cannot know it.

Source: Tejani et al. 2024, "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update",
Radiology: Artificial Intelligence 6(4):e240300; Mongan, Moy and Kahn 2020, Radiology: Artificial Intelligence
2(2):e200029.
"""

from dataclasses import dataclass

from extract.language import Message


@dataclass(frozen=True)
class ClaimSubject:
    """What one item asks for."""

    number: int
    section: Message
    subject: Message
    hint: Message  # for the author


_TITLE = Message("Title and abstract")
_INTRO = Message("Introduction")
_DESIGN = Message("Methods: design")
_DATA = Message("Methods: data")
_REFERENCE = Message("Methods: reference standard")
_PARTS = Message("Methods: partitions")
_MODEL = Message("Methods: model")
_TRAINING = Message("Methods: training")
_EVALUATION = Message("Methods: evaluation")
_RESULTS = Message("Results")
_DISCUSSION = Message("Discussion")
_OTHER = Message("Other")

SUBJECTS: tuple[ClaimSubject, ...] = tuple(
    ClaimSubject(number, section, Message(subject), Message(hint))
    for number, (section, subject, hint) in enumerate(
        (
            (_TITLE, "title names the kind of AI", "say deep learning, and what it is for"),
            (_TITLE, "abstract has a structure", "the report's first sentence may stand there as the result"),
            (_INTRO, "clinical background and role", "who would use it, for whom, instead of what"),
            (_INTRO, "aims and hypotheses", "say what you expected before the first run"),
            (_DESIGN, "prospective or retrospective", "and when the images were taken"),
            (_DESIGN, "goal of the study", "feasibility, a model to use, or a comparison of methods"),
            (_DATA, "sources of the data", "institutions, dates, licence, approval by an ethics committee"),
            (_DATA, "who was included and excluded", "criteria, in the order in which they were applied"),
            (_DATA, "preprocessing", "what was done to the images before they came here"),
            (_DATA, "how subsets were chosen", "crops, slices, views that were taken of each examination"),
            (_DATA, "de-identification", "how, and who checked it; file names stand in the archive, too"),
            (_DATA, "missing data", "examinations without label or image, and what was done about them"),
            (_DATA, "image acquisition", "scanner, protocol, contrast, resolution"),
            (_REFERENCE, "what the reference standard is", "how it was decided which class an image has"),
            (_REFERENCE, "why this reference standard", "and what is known about its errors"),
            (_REFERENCE, "who annotated", "how many readers, their training and experience"),
            (_REFERENCE, "annotation of the test part", "whether it was read more carefully than the rest"),
            (_REFERENCE, "agreement of the readers", "with each other and with themselves, in numbers"),
            (_PARTS, "how data were assigned to the parts", "if sites or dates decided, say which"),
            (_PARTS, "level at which the parts are disjoint", "whether a subject is a patient"),
            (_PARTS, "intended sample size", "how it was decided before the study; see `semisup plan`"),
            (_MODEL, "the model in detail", "a reference or figure of the network"),
            (_MODEL, "software", "operating system, drivers and hardware, where they matter"),
            (_MODEL, "initial values of the parameters", "where pretrained weights came from, and on what"),
            (_TRAINING, "how it was trained", "how the settings were found, and on which data"),
            (_TRAINING, "how the final model was selected", "if another model is published, say why"),
            (_TRAINING, "ensembles", "how their members were combined"),
            (_EVALUATION, "measures of performance", "why these, for this use"),
            (_EVALUATION, "significance and uncertainty", "which difference would matter to patients"),
            (_EVALUATION, "robustness", "what else was varied: scanner, site, noise, subgroups"),
            (_EVALUATION, "explanations", "maps with `classifier explain`, and who looked at them"),
            (_EVALUATION, "evaluation on internal data", "whether they are like those it will meet in use"),
            (_EVALUATION, "evaluation on external data", "if there is none, say so among the limits"),
            (_EVALUATION, "registration", "number and registry, if the study is registered"),
            (_RESULTS, "numbers included and excluded", "a flow chart, if some were excluded"),
            (_RESULTS, "who is in each part", "age, sex, severity, scanner, for each part"),
            (_RESULTS, "performance with uncertainty", "by subgroup, too, where there are enough subjects"),
            (_RESULTS, "estimates and their precision", "in the terms of the clinical question"),
            (_RESULTS, "analysis of the errors", "look at the images that are always wrong, and show some"),
            (_DISCUSSION, "limits of the study", "bias of selection, spectrum, reference standard"),
            (_DISCUSSION, "what it means in practice", "intended use, and what must happen before it"),
            (_OTHER, "full protocol", "where the study file can be read"),
            (_OTHER, "availability of software, model, data", "where, and under which licence"),
            (_OTHER, "funding", "sources, and their role"),
        ),
        start=1,
    )
)
CITATIONS = (
    "Tejani AS, Klontzas ME, Gatti AA, et al. Checklist for Artificial Intelligence in Medical Imaging "
    "(CLAIM): 2024 Update. Radiology: Artificial Intelligence 2024; 6(4):e240300.",
    "Mongan J, Moy L, Kahn CE Jr. Checklist for Artificial Intelligence in Medical Imaging (CLAIM): A Guide "
    "for Authors and Reviewers. Radiology: Artificial Intelligence 2020; 2(2):e200029.",
)
