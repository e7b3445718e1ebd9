// Keys of the slides: to the next and the last one, and the notes.
const slides = [...document.querySelectorAll("section")]
const nearest = () => slides.findIndex((slide) => slide.getBoundingClientRect().bottom > 10)
const steps = { ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1 }
addEventListener("keydown", (event) => {
  if (event.key === "n") document.body.classList.toggle("notes")
  if (!(event.key in steps) || event.target.closest("input, select, button")) return
  event.preventDefault()
  slides[Math.max(0, nearest() + steps[event.key])]?.scrollIntoView()
})
