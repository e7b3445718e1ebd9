"""Teaching: code shared by the notebooks. Exercises, predictions, reduced sizes, glossary.

The lessons themselves, with text, figures and questions, are in the notebooks.

In a notebook, three cells make up an exercise. The first (tag ``exercise``) has dots to replace,
the second (tag ``check``) answers at once, the third (tag ``solution``, folded) never overwrites
the reader's names, so a run from top to bottom tests every solution::

    words_at_rank_10 = ...

    check("quick_start.words", words_at_rank_10)

    # Solution
    assert check("quick_start.words", 10 * (150 + 784 + 1))

(A folded cell shows its first line, so that line gives nothing away.)

The check is in ``toolkit/teaching/checks/<topic>.py``, which is imported when an exercise of that
topic is checked. A new module is a new set of exercises; nothing needs to be registered::

    from toolkit.teaching.exercises import Wrong, close, exercise, wrong

    @exercise("quick_start.words")
    def words(answer: float) -> str | Wrong:
        if close(answer, 10 * (150 + 784)):
            return wrong("That is left and right. There is a third factor: what is its length?")
        if not close(answer, 9350):
            return wrong("Count one direction first: a column of left, one of right, a sigma.")
        return "A full gradient would take 117,600: twelve times as many."

- A right answer returns ``None``, or a closing sentence that says what the result means. A wrong
  one returns ``wrong("a hint that names what to look at, never the solution")``.
- An answer can be a function. The check calls it on its own inputs, drawn from a seed. A function
  that returns nothing (its body is still ``...``) counts as unanswered.
- An answer of another kind (text, None, a NaN, a function in place of a number) gets a hint of its
  own, if the check reads it by ``judge``, ``number``, ``two`` or ``numbers``, and what a function
  returns by ``outputs`` or ``parts``; ``Function`` is the annotation of an answer that is one. If
  the reader's function stops, the hint names its line and the error. No check needs a ``try``.
- Results of the reader's own run are passed by name, ``check("quick_start.first_step", answer,
  tree=tree)``, and arrive as keyword-only arguments of the exercise.
- Compare numbers and arrays (numpy or torch) with ``close``: false for another shape and for NaN.

One cell asks for a prediction, and a later one shows it beside the result::

    loss = predict("How many points will it lose?", low=0, high=20, unit="points")
    loss                                     # a slider; loss.value is where it stands
    loss.beside(measured)                    # "You said 10 points; measured: 0.4 points."
    predict("Which is cheaper?", options=["rows", "columns"])

``fast(20, 3)`` is 20 for a reader and 3 in the tests, which set ``TOOLKIT_FAST``.

``drawing("crossbar")`` is the schematic at the head of a notebook, an SVG made by code;
``stepping("write")`` shows a computation frame by frame, with a slider that needs no kernel.

Tests of a topic: every right answer passes, two or more typical wrong ones get their own hint,
``...`` counts as unanswered.
"""

from toolkit.teaching.drawings import Drawing, drawing, drawing_names
from toolkit.teaching.exercises import Verdict, Wrong, check, close, exercise, wrong
from toolkit.teaching.prediction import Prediction, predict
from toolkit.teaching.sizes import fast
from toolkit.teaching.stepping import Stepping, stepping, stepping_names

__all__ = [
    "Drawing",
    "Prediction",
    "Stepping",
    "Verdict",
    "Wrong",
    "check",
    "close",
    "drawing",
    "drawing_names",
    "exercise",
    "fast",
    "predict",
    "stepping",
    "stepping_names",
    "wrong",
]
