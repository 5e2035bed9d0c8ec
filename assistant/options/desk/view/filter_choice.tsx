interface FilterChoiceProps<Value extends string> {
  readonly id: string;
  readonly label: string;
  /** Words of the choice that filters nothing. */
  readonly all: string;
  /** Value = its words, in the order of the list. */
  readonly words: Readonly<Record<Value, string>>;
  readonly value: Value | null;
  readonly onChoose: (value: Value | null) => void;
}

/** A list with its label, to filter by one value or by none. */
export function FilterChoice<Value extends string>({ id, label, all, words, value, onChoose }: FilterChoiceProps<Value>) {
  return (
    <>
      <label for={id}>{label}</label>
      <select id={id} value={value ?? ""} onChange={(event) => onChoose((event.currentTarget.value || null) as Value | null)}>
        <option value="">{all}</option>
        {Object.entries<string>(words).map(([option, said]) => (
          <option key={option} value={option}>
            {said}
          </option>
        ))}
      </select>
    </>
  );
}
