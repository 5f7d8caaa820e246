const field = document.querySelector('input'), count = document.querySelector('output');
const entries = [...document.querySelectorAll('[data-entry]')];
const texts = entries.map(entry => entry.textContent.toLowerCase());
field.hidden = false;
const search = () => {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  entries.forEach((entry, at) => {
    entry.hidden = !words.every(word => texts[at].includes(word));
    found += !entry.hidden;
  });
  count.textContent = words.length ? `${found} of ${entries.length} entries` : '';
  document.querySelectorAll('main > section').forEach(section => {
    section.hidden = !section.querySelector('[data-entry]:not([hidden])');
  });
};
field.addEventListener('input', search);
// What a link leads to may be among what is hidden.
document.addEventListener('click', event => {
  if (field.value && event.target.closest('a')) {
    field.value = '';
    search();
  }
});
