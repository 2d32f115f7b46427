import { useSignal } from "@preact/signals";
import type { Ref } from "preact";

interface Props {
  id: string;
  label: string;
  value: string;
  change: (value: string) => void;
  fresh?: boolean;
  invalid?: boolean;
  says?: string;
  field?: Ref<HTMLInputElement>;
}

/** A password that can be looked at while it is written; so it need not be written twice. */
export function PasswordField({ id, label, value, change, fresh, invalid, says, field }: Props) {
  const shown = useSignal(false);
  return (
    <>
      <label for={id}>{label}</label>
      <div class="with-button">
        <input
          id={id}
          name={id}
          data-testid={id}
          {...(field && { ref: field })}
          type={(shown.value ? "text" : "password") as "password"}
          autocomplete={fresh ? "new-password" : "current-password"}
          autocapitalize="off"
          spellcheck={false}
          maxLength={256}
          value={value}
          aria-invalid={invalid ?? false}
          aria-describedby={says}
          onInput={(event) => change(event.currentTarget.value)}
        />
        <button
          type="button"
          class="quiet small"
          aria-pressed={shown.value}
          aria-label={`Show ${label.toLowerCase()}`}
          onClick={() => (shown.value = !shown.value)}
        >
          {shown.value ? "Hide" : "Show"}
        </button>
      </div>
    </>
  );
}
